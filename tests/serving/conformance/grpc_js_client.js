// Script of @grpc/grpc-js: a job on stdin, results on stdout.
// NODE_PATH names the folder of its packages.
"use strict";
const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const health = require("grpc-health-check");
const loader = require("@grpc/proto-loader");

const OPTIONS = { keepCase: true, longs: Number, enums: String, json: true };
const DEADLINE_MS = 30000;

function ask(client, method, request) {
  const deadline = Date.now() + DEADLINE_MS;
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, response) =>
      error ? reject(error) : resolve(response)
    );
  });
}

async function failure(client, method, request) {
  try {
    await ask(client, method, request);
  } catch (error) {
    return [grpc.status[error.code], error.details];
  }
  return ["no error", ""];
}

const shape = (size) => ({ dim: [{ size }] });

function strings(values) {
  return { dtype: "DT_STRING", tensor_shape: shape(values.length), string_val: values };
}

function floats(values) {
  return { dtype: "DT_FLOAT", tensor_shape: shape(values.length), float_val: values };
}

function read(tensor) {
  const values = tensor.float_val || tensor.string_val.map((one) => one.toString());
  const [rows, width] = tensor.tensor_shape.dim.map((d) => Number(d.size));
  if (width === undefined) return values;
  return Array.from({ length: rows }, (_, i) => values.slice(i * width, (i + 1) * width));
}

// A map made of descriptors is what it is on the wire: a list of keys and values.
const entries = (map) => Object.entries(map).map(([key, value]) => ({ key, value }));

function object(list) {
  return Object.fromEntries(list.map(({ key, value }) => [key, value]));
}

function readAll(outputs) {
  return object(outputs.map(({ key, value }) => ({ key, value: read(value) })));
}

function readSignature(infos) {
  const shown = ({ dtype, tensor_shape }) => ({
    dtype,
    shape: tensor_shape.dim.map((d) => Number(d.size)),
  });
  return object(infos.map(({ key, value }) => ({ key, value: shown(value) })));
}

function readMetadata(response) {
  const { signature_def } = object(response.metadata);
  const signature = object(signature_def.signature_def).serving_default;
  return {
    model_version: response.model_spec.version.value,
    inputs: readSignature(signature.inputs),
    outputs: readSignature(signature.outputs),
  };
}

function readStatus({ model_version_status }) {
  const shown = ({ state, status }) => ({
    state,
    error_code: (status && status.error_code) || 0,
    error_message: (status && status.error_message) || "",
  });
  return object(model_version_status.map((s) => ({ key: s.version, value: shown(s) })));
}

async function main() {
  const job = JSON.parse(fs.readFileSync(0));
  const descriptors = Buffer.from(job.descriptors, "base64");
  const loaded = loader.loadFileDescriptorSetFromBuffer(descriptors, OPTIONS);
  const { serving } = grpc.loadPackageDefinition(loaded).tensorflow;
  const plain = grpc.credentials.createInsecure();
  const predictions = new serving.PredictionService(job.grpc, plain);
  const models = new serving.ModelService(job.grpc, plain);
  const Health = grpc.makeClientConstructor(health.service, "Health");
  const healths = new Health(job.grpc, plain);

  const inputs = entries({ x: floats(job.floats) });
  const rows = {};
  for (const [name, values] of Object.entries(job.rows)) {
    rows[name] = strings(values.map((one) => Buffer.from(one, "base64")));
  }
  const halves = { model_spec: { name: job.halves }, inputs };
  const classifier = { model_spec: { name: job.classifier } };
  const first = await ask(predictions, "Predict", halves);
  const full = { ...classifier, inputs: entries(rows) };
  const metadata = { ...classifier, metadata_field: ["signature_def"] };
  const versioned = { name: job.halves, version: { value: 7 } };
  const unknown = { model_spec: { name: "unknown" } };
  const results = {
    floats: read(object(first.outputs).y),
    spec: { ...first.model_spec, version: first.model_spec.version.value },
    rows: readAll((await ask(predictions, "Predict", full)).outputs),
    metadata: readMetadata(await ask(predictions, "GetModelMetadata", metadata)),
    status: readStatus(await ask(models, "GetModelStatus", classifier)),
    health: {
      "": await ask(healths, "check", { service: "" }),
      PredictionService: await ask(healths, "check", { service: "PredictionService" }),
    },
    errors: {
      "unknown model": await failure(predictions, "Predict", { ...unknown, inputs }),
      "unknown version": await failure(predictions, "Predict", {
        model_spec: versioned,
        inputs,
      }),
      "unknown signature": await failure(predictions, "Predict", {
        model_spec: { name: job.halves, signature_name: "other" },
        inputs,
      }),
      "missing input": await failure(predictions, "Predict", {
        ...classifier,
        inputs: entries({ text: rows.text }),
      }),
      "status of an unknown model": await failure(models, "GetModelStatus", unknown),
    },
  };
  process.stdout.write(JSON.stringify(results));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  }
);
