export type Bare<Name extends string, Prefix extends string> = Name extends `${Prefix}${infer Rest}` ? Rest : never;

/** Enum value without its prefix. proto-loader gives a number for a value that the proto files here do not have: UNSPECIFIED. */
export function bare<Name extends string, Prefix extends string>(value: Name, prefix: Prefix): Bare<Name, Prefix> {
  const text = typeof value === "string" && value.startsWith(prefix) ? value.slice(prefix.length) : "UNSPECIFIED";
  return text as Bare<Name, Prefix>;
}
