// Brings a fresh or stale checkout to the point where the daemon and the tests can run: dependencies, generated types, native helper,
// compiled TypeScript. `npm start` and `npm test` call it first. It needs nothing but Node, npm, python3, make and g++, does only what is missing or
// stale, and says what it does. Plain JavaScript, no imports from packages: it runs before there are any.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");

function filesUnder(path) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (statSync(full).isFile()) return [path];
  return readdirSync(full)
    .filter((name) => name !== "build" && name !== "node_modules" && name !== "generated")
    .flatMap((name) => filesUnder(join(path, name)))
    .sort();
}

function digest(paths, extra) {
  const hash = createHash("sha256").update(extra);
  for (const path of paths.flatMap(filesUnder))
    hash
      .update(path)
      .update("\0")
      .update(readFileSync(join(root, path)))
      .update("\0");
  return hash.digest("hex");
}

/** quiet: what it prints is shown only when it fails. */
function run(command, args, { cwd = root, quiet = false } = {}) {
  const output = quiet ? "pipe" : "inherit";
  const result = spawnSync(command, args, { cwd, stdio: ["ignore", output, output], maxBuffer: 64 << 20 });
  if (result.error) throw new Error(`${command} could not be started: ${result.error.message}`);
  if (result.status !== 0) {
    if (quiet) process.stderr.write(Buffer.concat([result.stdout, result.stderr]));
    process.stderr.write(`setup: \`${command} ${args.join(" ")}\` failed (exit status ${result.status ?? result.signal})\n`);
    process.exit(1);
  }
}

/** Does the work when the stamp does not hold the inputs' digest, or an output is missing. */
function step(what, stamp, outputs, inputs, extra, work) {
  const stampPath = join(root, stamp);
  const wanted = digest(inputs, extra);
  const fresh =
    existsSync(stampPath) && readFileSync(stampPath, "utf8") === wanted && outputs.every((path) => existsSync(join(root, path)));
  if (fresh) return;
  process.stderr.write(`setup: ${what}\n`);
  const begin = process.hrtime.bigint();
  rmSync(stampPath, { force: true });
  work();
  mkdirSync(dirname(stampPath), { recursive: true });
  writeFileSync(stampPath, wanted);
  process.stderr.write(`setup: done in ${(Number(process.hrtime.bigint() - begin) / 1e9).toFixed(1)} s\n`);
}

// npm tells its scripts where its own node-gyp is, so no package of ours has to bring one.
function nodeGyp() {
  const candidates = [process.env.npm_config_node_gyp];
  if (process.env.npm_execpath) candidates.push(join(dirname(process.env.npm_execpath), "../node_modules/node-gyp/bin/node-gyp.js"));
  const found = candidates.find((path) => path && existsSync(path));
  if (!found) {
    process.stderr.write("setup: npm's node-gyp was not found; run this through npm (npm run build)\n");
    process.exit(1);
  }
  return found;
}

function buildNative() {
  const args = [nodeGyp(), "rebuild", "--jobs", String(availableParallelism())];
  // Headers that came with this Node make the build independent of the network.
  const prefix = resolve(dirname(process.execPath), "..");
  if (existsSync(join(prefix, "include/node/node_api.h"))) args.push(`--nodedir=${prefix}`);
  run(process.execPath, args, { cwd: join(root, "native"), quiet: true });
}

const bin = (name) => join(root, "node_modules/.bin", name);

step("installing npm packages (npm ci)", "node_modules/.aperture-setup", [], ["package.json", "package-lock.json"], process.version, () => {
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
});
step("generating types from proto/", "src/generated/.stamp", [], ["proto", "deploy/describe-api.mjs"], "", () => {
  rmSync(join(root, "src/generated"), { recursive: true, force: true });
  run(bin("proto-loader-gen-types"), [
    ...["--longs=String", "--enums=String", "--defaults", "--oneofs", "--grpcLib=@grpc/grpc-js", "--importFileExtension=.js"],
    ...["--outDir=src/generated", "-I", "proto", "--"],
    ...[
      "aperture/v1/device.proto",
      "aperture/v1/lease.proto",
      "aperture/v1/host.proto",
      "aperture/v1/vmm.proto",
      "aperture/v1/driver.proto",
      "google/rpc/status.proto",
    ],
  ]);
  // One FileDescriptorSet after the other is again one (protobuf joins repeated fields).
  const sets = [
    ["proto", "src/generated/aperture.binpb"],
    ["node_modules/grpc-health-check/proto", "src/generated/health.binpb"],
  ];
  for (const [from, to] of sets) run(bin("buf"), ["build", from, "--exclude-source-info", "--as-file-descriptor-set", "-o", to]);
  const bytes = Buffer.concat(sets.map(([, to]) => readFileSync(join(root, to))));
  writeFileSync(join(root, "src/generated/reflection.binpb"), bytes);
  run(process.execPath, [join(root, "deploy/describe-api.mjs")]);
});
step(
  "building the native helper (node-gyp)",
  "native/build/.stamp",
  ["native/build/Release/aperture.node"],
  ["native/binding.gyp", "native/sys", "native/js"],
  process.version,
  buildNative,
);
step(
  "compiling TypeScript",
  "dist/.stamp",
  ["dist/src/daemon/main.js"],
  ["src", "test", "tsconfig.json", "proto", "deploy/describe-api.mjs"],
  process.version,
  () => {
    // From nothing: an output whose source is gone would go on being run as a test.
    rmSync(join(root, "dist"), { recursive: true, force: true });
    run(bin("tsc"), ["-p", "tsconfig.json"]);
  },
);
step(
  "bundling the daemon",
  "dist/.bundle-stamp",
  ["dist/daemon.cjs", "dist/daemon.cjs.cache"],
  ["dist/.stamp", "deploy/bundle.mjs", "deploy/code-cache.cjs"],
  process.version,
  () => {
    run(process.execPath, [join(root, "deploy/bundle.mjs")]);
  },
);
