// docs/API.md from the comments of proto/, as the schema compiler reads them.

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { code, table } from "./markdown.js";

// The parts that are read of google.protobuf.FileDescriptorSet, as JSON.
interface Named {
  readonly name: string;
}

interface Field extends Named {
  readonly number: number;
  readonly label: string;
  readonly type: string;
  readonly typeName?: string;
  readonly proto3Optional?: boolean;
  readonly oneofIndex?: number;
}

interface Message extends Named {
  readonly field?: readonly Field[];
  readonly oneofDecl?: readonly Named[];
}

interface EnumType extends Named {
  readonly value: readonly (Named & { readonly number: number })[];
}

interface Method extends Named {
  readonly inputType: string;
  readonly outputType: string;
  readonly clientStreaming?: boolean;
  readonly serverStreaming?: boolean;
}

interface File extends Named {
  readonly messageType?: readonly Message[];
  readonly enumType?: readonly EnumType[];
  readonly service?: readonly (Named & { readonly method: readonly Method[] })[];
  readonly sourceCodeInfo: { readonly location: readonly { readonly path?: readonly number[]; readonly leadingComments?: string }[] };
}

// Field numbers of descriptor.proto: how a location's path names what it is about.
const PATH = { message: 4, enum: 5, service: 6, field: 2, value: 2, method: 2 } as const;

const PACKAGE = ".aperture.v1.";

function files(): readonly File[] {
  const root = new URL("../../../", import.meta.url);
  const buf = fileURLToPath(new URL("node_modules/.bin/buf", root));
  const json = execFileSync(buf, ["build", fileURLToPath(new URL("proto", root)), "-o", "-#format=json"], { maxBuffer: 64 << 20 });
  const { file } = JSON.parse(json.toString()) as { readonly file: readonly File[] };
  return file.filter(({ name }) => name.startsWith("aperture/v1/")).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A file with what its comments say. */
class Commented {
  readonly file: File;
  readonly #comments = new Map<string, string>();

  constructor(file: File) {
    this.file = file;
    for (const { path = [], leadingComments } of file.sourceCodeInfo.location) {
      if (leadingComments === undefined) continue;
      const lines = leadingComments.split("\n").map((line) => line.trim());
      this.#comments.set(path.join(), lines.join(" ").trim());
    }
  }

  of(...path: readonly number[]): string {
    const comment = this.#comments.get(path.join());
    if (comment === undefined) throw new Error(`${this.file.name} has no comment at ${path.join(".")}`);
    return comment;
  }
}

function link(typeName: string): string {
  if (!typeName.startsWith(PACKAGE)) return code(typeName.slice(1));
  const name = typeName.slice(PACKAGE.length);
  return `[${name}](#${name.toLowerCase()})`;
}

function typeOf(field: Field): string {
  const type = field.typeName === undefined ? code(field.type.replace("TYPE_", "").toLowerCase()) : link(field.typeName);
  if (field.label === "LABEL_REPEATED") return `repeated ${type}`;
  return field.proto3Optional ? `optional ${type}` : type;
}

/** What a comment says of errors stands on a line of its own. */
function paragraphs(comment: string): string {
  return comment.replace(/ (Errors: )/, "\n\n$1");
}

function services(file: Commented): string[] {
  return (file.file.service ?? []).flatMap((service, s) => [
    `## ${service.name}`,
    file.of(PATH.service, s),
    ...service.method.flatMap((method, m) => {
      const stream = (yes: boolean | undefined): string => (yes ? "stream of " : "");
      const signature = `${stream(method.clientStreaming)}${link(method.inputType)} → ${stream(method.serverStreaming)}${link(method.outputType)}`;
      return [`### ${service.name}.${method.name}`, signature, paragraphs(file.of(PATH.service, s, PATH.method, m))];
    }),
  ]);
}

function messages(file: Commented): string[] {
  return (file.file.messageType ?? []).flatMap((message, i) => {
    const head = [`### ${message.name}`, file.of(PATH.message, i)];
    const fields = message.field ?? [];
    if (fields.length === 0) return [...head, "No fields."];
    const rows = fields.map((field, f) => {
      const oneof = field.proto3Optional || field.oneofIndex === undefined ? null : message.oneofDecl?.[field.oneofIndex];
      const comment = file.of(PATH.message, i, PATH.field, f);
      return [code(field.name), String(field.number), typeOf(field), oneof ? `One of ${code(oneof.name)}. ${comment}` : comment];
    });
    return [...head, table(["field", "number", "type", "meaning"], rows)];
  });
}

function enums(file: Commented): string[] {
  return (file.file.enumType ?? []).flatMap((type, i) => [
    `### ${type.name}`,
    file.of(PATH.enum, i),
    table(
      ["value", "number", "meaning"],
      type.value.map((value, v) => [code(value.name), String(value.number), file.of(PATH.enum, i, PATH.value, v)]),
    ),
  ]);
}

export function apiPage(): string {
  const all = files().map((file) => new Commented(file));
  const named = all.flatMap(({ file }) => (file.service ?? []).map(({ name }) => name));
  const parts = [
    "# API",
    [
      'The gRPC API, package `aperture.v1`. Made from the comments of `proto/aperture/v1/` by `npm run docs`. Served beside it: `grpc.health.v1` (one entry for each service and `""` for',
      "the whole) and server reflection. How descriptors travel is in [PROTOCOL.md](PROTOCOL.md).",
    ].join("\n"),
    `Services: ${named.map((name) => `[${name}](#${name.toLowerCase()})`).join(", ")}.`,
    [
      "A refused call carries `google.rpc.Status` in the trailer `grpc-status-details-bin`. It always holds a `google.rpc.ErrorInfo` with the domain `aperture` and one of the reasons of",
      "[REASONS.md](REASONS.md), whose metadata says under `next` what to do, and a `google.rpc.BadRequest` when a field of the request is wrong. The names in capital letters behind",
      "a status below are such reasons. Every call can be answered with INTERNAL and no details: a fault of the daemon, which is in its log.",
    ].join("\n"),
    "Fields that are absent have the default of proto3 unless they say otherwise. `optional` fields tell absent from 0.",
    ...all.flatMap(services),
    "## Messages",
    ...all.flatMap(messages),
    "## Enumerations",
    ...all.flatMap(enums),
  ];
  return `${parts.join("\n\n")}\n`;
}
