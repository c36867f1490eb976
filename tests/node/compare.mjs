// Compares the models of a gateway on one picture. node compare.mjs ADDRESS PICTURE
// Prints each row as it comes, then the agreement and the trailers, as JSON; what fails, with its code.
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
  defaults: true,
});
const { VisionService } = grpc.loadPackageDefinition(proto).visiongateway.v1;
const client = new VisionService(address, grpc.credentials.createInsecure());
const image = { data: readFileSync(picture) };

const compare = (request) =>
  new Promise((resolve) => {
    const rows = [];
    let agreement = null;
    let failure = null;
    const call = client.Compare(request, new grpc.Metadata(), { deadline: Date.now() + 20_000 });
    call.on("data", (message) => {
      if (message.agreement) agreement = message.agreement;
      else rows.push(message);
    });
    call.on("error", (error) => {
      failure = { code: grpc.status[error.code], details: error.details };
    });
    call.on("status", (status) => {
      const trailers = status.metadata.getMap();
      resolve({ rows, agreement, failure, cost: trailers["x-vision-cost-nano-usd"], models: trailers["x-vision-model"] });
    });
  });

const compared = await compare({ detect: { image, labels: ["cat"] } });
const unknown = await compare({ detect: { image, labels: ["cat"] }, models: ["nobody"] });
process.stdout.write(JSON.stringify({ compared, unknown }));
client.close();
