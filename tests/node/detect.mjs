// A client of another language: loads proto/ as it stands and asks for the cat and its price. node detect.mjs ADDRESS PICTURE
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, picture] = process.argv.slice(2);
const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "proto");
const proto = loader.loadSync("visiongateway/v1/vision_service.proto", {
  includeDirs: [root],
  longs: String,
  enums: String,
  oneofs: true,
});
const { VisionService } = grpc.loadPackageDefinition(proto).visiongateway.v1;
const client = new VisionService(address, grpc.credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 20_000 });

const ask = (method, request) =>
  new Promise((resolve) => {
    const call = client[method](request, new grpc.Metadata(), deadline(), (error, response) => {
      resolve(error ? { code: grpc.status[error.code], details: error.details } : response);
    });
    call.on("status", (status) => {
      trailers[method] = status.metadata.get("x-vision-model")[0] ?? "";
    });
  });

const trailers = {};
const image = { data: readFileSync(picture) };
const found = await ask("Detect", { image, labels: ["cat"] });
const refused = await ask("VQA", { image, question: "" });
const quoted = await ask("Quote", { detect: { image, labels: ["cat"] } });
process.stdout.write(JSON.stringify({ found, refused, quoted, trailers }));
client.close();
