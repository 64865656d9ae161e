// What a case is: sides that are measured in turn, and the rows of the table that are made of their figures.

/** The numbers of one measurement by name. */
export type Figures = Readonly<Record<string, number>>;

/** Full, or as little as shows that it runs. */
export interface Scale {
  readonly quick: boolean;
  pick<T>(full: T, quick: T): T;
}

export interface Side {
  readonly name: string;
  /** One measurement, which has checked what it measured. Throws when anything was not as it should be. */
  readonly measure: () => Promise<Figures>;
}

export interface Prepared {
  readonly sides: readonly Side[];
  /** False: each measurement begins from nothing, and one more would only take time. */
  readonly warmUp?: boolean;
  /** One measurement that repeats itself inside needs no rounds around it. */
  readonly rounds?: number;
  readonly close: () => Promise<void>;
}

export type Target = { readonly atMost: number } | { readonly atLeast: number };

/** A figure of a side. */
export interface FigureName {
  readonly side: string;
  readonly figure: string;
}

export interface Row {
  /** Stays the same from run to run: others refer to it. */
  readonly id: string;
  readonly measure: string;
  /** What it is compared with, in words. */
  readonly against: string;
  readonly unit: string;
  readonly of: FigureName;
  /** null: the target is on the figure itself. */
  readonly base: FigureName | null;
  /** null: told for comparison, and not judged. */
  readonly target: Target | null;
}

export interface BenchCase {
  readonly name: string;
  readonly rows: readonly Row[];
  prepare(scale: Scale): Promise<Prepared>;
}

/** One line of a plot: how a figure grows with something. */
export interface GrowthCase {
  readonly id: string;
  readonly measure: string;
  readonly unit: string;
  /** What grows. */
  readonly over: string;
  readonly figure: string;
  readonly points: readonly number[];
  readonly quickPoints: readonly number[];
  /** Largest exponent that is right. */
  readonly atMost: number;
  prepare(scale: Scale, point: number): Promise<Prepared>;
}

/** Why a case cannot be measured here; told in its rows instead of figures. Anything else that is thrown is a failure. */
export class NotMeasured extends Error {}
