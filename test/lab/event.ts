// What travels from the test run in the guest to the host: one JSON object a line, written by reporter.ts, read by replay.ts.

export interface Failure {
  readonly message: string;
  /** The error as Node's inspect prints it: stack, causes, properties. */
  readonly text: string;
  /** Why node:test counts it as failed, for instance "testCodeFailure" or "subtestsFailed". */
  readonly kind: string;
}

export interface TestEnded {
  readonly type: "test";
  /** The names of the suites and tests around it and its own, outermost first. */
  readonly path: readonly string[];
  readonly suite: boolean;
  readonly durationMs: number;
  /** A reason, or true without one. */
  readonly skip: string | boolean;
  readonly todo: string | boolean;
  readonly failure: Failure | null;
}

export type LabEvent =
  | { readonly type: "begin"; readonly kernel: string; readonly node: string }
  /** A test or suite begins. Not shown; when a run is cut short, the last one tells where. */
  | { readonly type: "started"; readonly name: string }
  | TestEnded
  /** Belongs to the test that ended before it. */
  | { readonly type: "diagnostic"; readonly message: string }
  /** Its absence tells that the run was cut short. */
  | { readonly type: "end" };
