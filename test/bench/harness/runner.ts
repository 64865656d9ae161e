// Runs cases: each side once to warm up, then in rounds, all sides of a case in every round and beginning with another one each time, so that what disturbs the machine
// disturbs all of them.

import type { BenchCase, FigureName, Figures, GrowthCase, Prepared, Row, Scale, Side, Target } from "./case.js";
import { NotMeasured } from "./case.js";
import { Server } from "./processes.js";
import { idle } from "./processors.js";
import type { GrowthResult, RowResult } from "./results.js";
import { exponent, type Spread, spread } from "./statistics.js";

type Round = Readonly<Record<string, Figures>>;

interface Trouble {
  readonly verdict: "not measured" | "failed";
  readonly why: string;
}

interface Outcome {
  readonly rounds: readonly Round[];
  /** By the name of the side. */
  readonly sides: ReadonlyMap<string, Trouble>;
  /** Of all sides together. */
  readonly trouble: Trouble | null;
}

const IDLE_MS = 6_000;

export class Runner {
  readonly #scale: Scale;
  readonly #rounds: number;
  readonly #calm: () => Promise<boolean>;
  disturbed = 0;
  measurements = 0;

  /** calm: resolves when the machine is idle; false: it is not. */
  constructor(scale: Scale, rounds: number, calm: () => Promise<boolean> = () => idle(IDLE_MS)) {
    this.#scale = scale;
    this.#rounds = rounds;
    this.#calm = calm;
  }

  async rows(benchCase: BenchCase): Promise<readonly RowResult[]> {
    const outcome = await this.#attempt(() => benchCase.prepare(this.#scale));
    return benchCase.rows.map((row) => {
      const sides = [row.of.side, ...(row.base === null ? [] : [row.base.side])];
      const trouble = outcome.trouble ?? sides.map((side) => outcome.sides.get(side) ?? null).find((each) => each !== null);
      return trouble ? { ...withoutFigures(row), ...trouble } : this.#row(row, outcome.rounds);
    });
  }

  async growth(growthCase: GrowthCase): Promise<GrowthResult> {
    const { id, measure, unit, over, atMost, figure } = growthCase;
    const points: { readonly x: number; readonly y: Spread }[] = [];
    for (const x of this.#scale.pick(growthCase.points, growthCase.quickPoints)) {
      const outcome = await this.#attempt(() => growthCase.prepare(this.#scale, x));
      const trouble = outcome.trouble ?? [...outcome.sides.values()][0];
      if (trouble) return { id, measure, unit, over, points, exponent: null, atMost, ...trouble };
      points.push({ x, y: spread(outcome.rounds.map((round) => figureOf(round, { side: onlySide(round), figure }))) });
    }
    const fitted = points.length < 2 ? null : exponent(points.map(({ x, y }) => ({ x, y: y.median })));
    const verdict = this.#scale.quick || fitted === null ? "ran" : fitted <= atMost ? "met" : "not met";
    return { id, measure, unit, over, points, exponent: fitted, atMost, verdict, why: "" };
  }

  async #attempt(prepare: () => Promise<Prepared>): Promise<Outcome> {
    const sides = new Map<string, Trouble>();
    const rounds: Round[] = [];
    try {
      const prepared = await prepare();
      try {
        if (!this.#scale.quick && prepared.warmUp !== false) for (const side of prepared.sides) await this.#measure(side, sides, false);
        for (let n = 0; n < Math.min(this.#rounds, prepared.rounds ?? this.#rounds); n += 1) {
          const figures: Record<string, Figures> = {};
          for (const [i] of prepared.sides.entries()) {
            const side = prepared.sides[(i + n) % prepared.sides.length];
            const taken = side === undefined ? null : await this.#measure(side, sides, true);
            if (side !== undefined && taken !== null) figures[side.name] = taken;
          }
          rounds.push(figures);
        }
      } finally {
        // Where every side has its own trouble, what a server says at its end is a consequence of it.
        await prepared.close().catch((error: unknown) => {
          if (sides.size < prepared.sides.length) throw error;
        });
      }
      return { rounds, sides, trouble: null };
    } catch (error) {
      Server.killAll();
      return { rounds, sides, trouble: troubleOf(error) };
    }
  }

  /** null: it cannot be measured, or has failed; it is not tried again, and takes only its own rows with it. */
  async #measure(side: Side, troubles: Map<string, Trouble>, counts: boolean): Promise<Figures | null> {
    if (troubles.has(side.name)) return null;
    if (counts && !this.#scale.quick && !(await this.#calm())) this.disturbed += 1;
    if (counts) this.measurements += 1;
    try {
      return await side.measure();
    } catch (error) {
      troubles.set(side.name, troubleOf(error));
      return null;
    }
  }

  #row(row: Row, rounds: readonly Round[]): RowResult {
    const { base: baseName } = row;
    const values = rounds.map((round) => figureOf(round, row.of));
    const bases = baseName === null ? null : rounds.map((round) => figureOf(round, baseName));
    const ratio = bases === null ? null : spread(values.map((value, i) => value / (bases[i] ?? Number.NaN)));
    const value = spread(values);
    const judged = row.target === null ? "told" : meets((ratio ?? value).median, row.target) ? "met" : "not met";
    return {
      ...withoutFigures(row),
      ...{ value, base: bases === null ? null : spread(bases), ratio, verdict: this.#scale.quick ? "ran" : judged, rounds },
    };
  }
}

function troubleOf(error: unknown): Trouble {
  if (error instanceof NotMeasured) return { verdict: "not measured", why: error.message };
  return { verdict: "failed", why: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** A row of which there is nothing to show. */
export function withoutFigures(row: Row): RowResult {
  const { id, measure, against, unit, target } = row;
  return { id, measure, against, unit, target, value: null, base: null, ratio: null, verdict: "failed", why: "", rounds: [] };
}

function onlySide(round: Round): string {
  const [side] = Object.keys(round);
  if (side === undefined) throw new Error("nothing was measured");
  return side;
}

function figureOf(round: Round, { side, figure }: FigureName): number {
  const value = round[side]?.[figure];
  if (value === undefined) throw new Error(`${side} has no figure ${figure}`);
  return value;
}

function meets(value: number, target: Target): boolean {
  return "atMost" in target ? value <= target.atMost : value >= target.atLeast;
}
