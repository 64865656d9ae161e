// Builds the baselines: small C and C++ programs, compiled when a case first needs them and kept by the digest of what they were made of.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { run, which } from "../../lab/process.js";
import { repository } from "../../lab/repository.js";
import { cacheFolder } from "./cache.js";
import { NotMeasured } from "./case.js";
import { installed } from "./packages.js";

interface Recipe {
  /** Below test/bench/baselines, or from the checkout's root with a slash in front. */
  readonly sources: readonly string[];
  /** What the sources include, for the digest. */
  readonly headers: readonly string[];
  readonly flags: readonly string[];
  readonly libraries: readonly string[];
  readonly packages: readonly string[];
  /** A .proto of which protoc makes two more sources. */
  readonly proto: string | null;
}

const FOLDER = join(repository, "test/bench/baselines");
const CLIENT_HEADERS = ["wire.h", "grpc_connection.h", "descriptor_channel.h", "lease_load.h"] as const;
const C: Omit<Recipe, "sources"> = { headers: [], flags: [], libraries: [], packages: [], proto: null };
const CLIENT: Omit<Recipe, "sources"> = {
  ...{ headers: CLIENT_HEADERS, flags: [], libraries: ["-lnghttp2"], packages: ["libnghttp2-dev"], proto: null },
};
/** Headers of gRPC use abseil, of which each distribution has other parts: those that its libraries need are taken along. */
const INDIRECT = ["-Wl,--copy-dt-needed-entries"];
const NATIVE_HEADERS = ["/native/sys/mapping.h", "/native/sys/mapping_plan.h", "/native/sys/result.h", "/native/client/aperture_client.h"];
const NATIVE = ["mapping", "mapping_plan", "fault_guard", "result"].map((name) => `/native/sys/${name}.cc`);

const RECIPES = {
  scm_server: { ...C, sources: ["scm_server.c"] },
  scm_client: { ...C, sources: ["scm_client.c"] },
  http_get: { ...C, sources: ["http_get.c"] },
  vfio_direct: { ...C, sources: ["vfio_direct.c"] },
  lease_client: { ...CLIENT, sources: ["lease_client.cc", "lease_caller.cc", "grpc_connection.cc", "descriptor_channel.cc"] },
  stream_client: { ...CLIENT, sources: ["stream_client.cc", "grpc_connection.cc", "descriptor_channel.cc"] },
  mapping: {
    ...{ sources: ["mapping.cc", "/native/client/aperture_client.c", ...NATIVE], headers: NATIVE_HEADERS },
    ...{ flags: ["-iquote", join(repository, "native")], libraries: ["-pthread"], packages: [], proto: null },
  },
  grpc_peer: {
    ...{ sources: ["grpc_peer.cc"], headers: [], flags: [], libraries: [...INDIRECT, "-lgrpc++", "-lprotobuf", "-pthread"] },
    ...{ packages: ["libgrpc++-dev", "libprotobuf-dev", "protobuf-compiler", "protobuf-compiler-grpc"], proto: "peer.proto" },
  },
} as const satisfies Record<string, Recipe>;

export type BaselineName = keyof typeof RECIPES;

const COMMON = ["-O2", "-Wall", "-Wextra"];
const building = new Map<BaselineName, Promise<string>>();

function pathOf(source: string): string {
  return source.startsWith("/") ? join(repository, source) : join(FOLDER, source);
}

/** Path of the program. Throws NotMeasured when a package that it needs cannot be had. */
export function baseline(name: BaselineName): Promise<string> {
  const begun = building.get(name) ?? build(name, RECIPES[name]);
  building.set(name, begun);
  return begun;
}

async function build(name: BaselineName, recipe: Recipe): Promise<string> {
  const lacking = await installed(recipe.packages);
  if (lacking !== null) throw new NotMeasured(lacking);
  if ((await which("g++")) === null) throw new NotMeasured("needs g++");
  const hash = createHash("sha256").update(JSON.stringify(recipe));
  const inputs = [...recipe.sources, ...recipe.headers, ...(recipe.proto === null ? [] : [recipe.proto])];
  for (const input of inputs) hash.update(readFileSync(pathOf(input)));
  const program = join(cacheFolder("programs"), `${name}-${hash.digest("hex").slice(0, 16)}`);
  if (existsSync(program)) return program;

  const work = join(cacheFolder("building"), `${name}-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const generated = recipe.proto === null ? [] : await generate(recipe.proto, work);
    const sources = [...recipe.sources.map(pathOf), ...generated];
    const compile = async (source: string, number: number): Promise<string> => {
      const object = join(work, `${number}-${basename(source)}.o`);
      const [compiler, standard] = source.endsWith(".c") ? ["gcc", "-std=gnu17"] : ["g++", "-std=c++17"];
      await run(compiler, [standard, ...COMMON, ...recipe.flags, `-I${work}`, "-c", source, "-o", object]);
      return object;
    };
    const objects = await Promise.all(sources.map(compile));
    await run("g++", [...objects, ...recipe.libraries, "-o", join(work, "program")]);
    renameSync(join(work, "program"), program);
    return program;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function generate(proto: string, work: string): Promise<readonly string[]> {
  const plugin = await which("grpc_cpp_plugin");
  if (plugin === null) throw new NotMeasured("needs grpc_cpp_plugin (protobuf-compiler-grpc)");
  await run("protoc", ["-I", FOLDER, `--cpp_out=${work}`, `--grpc_out=${work}`, `--plugin=protoc-gen-grpc=${plugin}`, proto]);
  const stem = basename(proto, ".proto");
  return [join(work, `${stem}.pb.cc`), join(work, `${stem}.grpc.pb.cc`)];
}
