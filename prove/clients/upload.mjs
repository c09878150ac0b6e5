// Uploads one file as a program with tus-js-client, or Uppy, does: goes on where an
// earlier run was killed. Tells each offset that it hears, a line each, on its output.
//
//   node upload.mjs MODE ENDPOINT FILE STORAGE CHUNK
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const [mode, endpoint, file, storage, chunk] = process.argv.slice(2);
const find = createRequire(join(process.env.NODE_PATH, "from-here.js"));
const load = (name, from = find) => import(pathToFileURL(from.resolve(name)).href);

const content = readFileSync(file);
const tell = (...words) => process.stdout.write(words.join(" ") + "\n");
const heard = (request, response) => {
  const offset = response.getHeader("Upload-Offset");
  if (offset !== undefined && offset !== null && response.getStatus() < 300) {
    tell("offset", request.getURL(), offset);
  }
};
const failed = (error) => {
  tell("failed", String(error.message || error).split("\n")[0]);
  process.exit(1);
};
const usual = {
  endpoint,
  chunkSize: Number(chunk),
  retryDelays: Array(100).fill(100),
  onAfterResponse: heard,
  removeFingerprintOnSuccess: false,
};
const protocols = { draft3: "ietf-draft-03", draft5: "ietf-draft-05" };

async function withTus() {
  const tus = await load("tus-js-client");
  const upload = new tus.Upload(content, {
    ...usual,
    urlStorage: new tus.FileUrlStorage(storage),
    protocol: protocols[mode] || "tus-v1",
    parallelUploads: mode === "parallel" ? 3 : 1,
    uploadDataDuringCreation: mode === "with-creation",
    metadata: { filename: basename(file) },
    onError: failed,
    onSuccess: () => tell("done", upload.url || "-"),
  });
  const earlier = await upload.findPreviousUploads();
  if (earlier.length > 0) upload.resumeFromPreviousUpload(earlier[0]);
  upload.start();
}

async function withUppy() {
  const { default: Uppy } = await load("@uppy/core");
  const { default: Tus } = await load("@uppy/tus");
  const tus = await load("tus-js-client", createRequire(find.resolve("@uppy/tus")));
  const uppy = new Uppy({ autoProceed: false });
  uppy.use(Tus, { ...usual, urlStorage: new tus.FileUrlStorage(storage) });
  content.size = content.length;
  uppy.addFile({ name: basename(file), type: "application/octet-stream", data: content });
  const result = await uppy.upload();
  if (result.failed.length > 0) failed(result.failed[0].error || "failed");
  else tell("done", result.successful[0].uploadURL);
}

await (mode === "uppy" ? withUppy() : withTus()).catch(failed);
