// Has several tasks done about one picture. node annotate.mjs ADDRESS PICTURE
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
const image = { data: readFileSync(picture) };

const annotate = (request) =>
  new Promise((resolve) => {
    client.Annotate(request, new grpc.Metadata(), { deadline: Date.now() + 20_000 }, (error, response) => {
      resolve(error ? { code: grpc.status[error.code], details: error.details } : response);
    });
  });

const done = await annotate({
  image,
  options: { model: "embedded" },
  tasks: [{ detect: { labels: ["cat"] } }, { vqa: { question: "Why?" } }, { caption: { options: { model: "gpt-5.5" } } }],
});
const refused = await annotate({ image, tasks: [{ caption: {} }, { vqa: { question: "" } }] });
process.stdout.write(JSON.stringify({ done, refused }));
client.close();
