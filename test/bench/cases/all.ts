// Every case, in the order of the table.

import type { BenchCase, GrowthCase } from "../harness/case.js";
import { echoCases } from "./echo.js";
import { growthCases } from "./growth.js";
import { handoverCases } from "./handover.js";
import { inventoryCases } from "./inventory.js";
import { labCases } from "./lab.js";
import { leaseCases } from "./leases.js";
import { mappingCases } from "./mapping.js";
import { processCases } from "./process.js";
import { watchCases } from "./watch.js";

export const cases: readonly BenchCase[] = [
  ...handoverCases,
  ...leaseCases,
  ...echoCases,
  ...inventoryCases,
  ...watchCases,
  ...mappingCases,
  ...processCases,
  ...labCases,
];

export const growths: readonly GrowthCase[] = growthCases;
