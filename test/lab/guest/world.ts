import { type World, worlds } from "../devices.js";

function worldOfThisGuest(): World {
  const name = process.env.APERTURE_LAB_WORLD;
  const world = worlds.find((candidate) => candidate === name);
  if (world === undefined) throw new Error("APERTURE_LAB_WORLD is not set: this runs inside a guest of the lab (npm run test:lab)");
  return world;
}

export const world: World = worldOfThisGuest();
