// What the bench builds and finds stays in the checkout, outside version control.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { repository } from "../../lab/repository.js";

/** A folder of the bench's own below .aperture, made when it is not there. */
export function cacheFolder(name: string): string {
  const folder = join(repository, ".aperture/bench", name);
  mkdirSync(folder, { recursive: true });
  return folder;
}
