// Reads streams as they come, and the RPCs that go with them. node stream.mjs ADDRESS PICTURE MODEL...
// Prints what each model said, whole and in pieces, as JSON; what fails, with its code and the reason in its details.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, picture, ...models] = process.argv.slice(2);
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
const deadline = () => ({ deadline: Date.now() + 60_000 });

const ask = (method, request) =>
  new Promise((resolve) => {
    client[method](request, new grpc.Metadata(), deadline(), (error, response) => {
      resolve(error ? { code: grpc.status[error.code], details: error.details } : response);
    });
  });

// With leaveAfter it goes after so many deltas.
const read = (method, request, leaveAfter = Infinity) =>
  new Promise((resolve) => {
    const deltas = [];
    let answer = null;
    const call = client[method](request, new grpc.Metadata(), deadline());
    call.on("data", (message) => {
      if (message.event === "answer") answer = message.answer;
      else deltas.push(message.delta);
      if (deltas.length === leaveAfter) call.cancel();
    });
    call.on("error", () => {});
    call.on("status", ({ code, metadata }) => {
      resolve({ deltas, answer, code: grpc.status[code], model: metadata.getMap()["x-vision-model"] });
    });
  });

const told = {};
for (const model of models) {
  const options = { model, temperature: 0, maxOutputTokens: 40 };
  const prompt = { image, prompt: "What is there?", system: "You are brief.", options };
  told[model] = {
    caption: await read("StreamCaption", { image, options }),
    vqa: await read("StreamVQA", { image, question: "What is it?", options }),
    prompt: await read("StreamPrompt", prompt),
    whole: await ask("Prompt", prompt),
    left: await read("StreamPrompt", { ...prompt, options: { ...options, maxOutputTokens: 8_000 } }, 1),
  };
}
const refused = await read("StreamVQA", { image, question: "" });
const listed = await ask("ListModels", {});
process.stdout.write(JSON.stringify({ told, refused, listed }));
client.close();
