import assert from "node:assert/strict";
import { it } from "node:test";
import { loadModule } from "../../../src/host/module-loader.js";
import { openDescriptors } from "../../contract/client-side.js";

// Whether this machine has a modprobe or not: there is no such module.
it("[real processes] loading a module that there is not says why, and leaves no descriptor", async () => {
  await loadModule("aperture_no_such_module", 20_000);
  const before = openDescriptors();
  for (let n = 0; n < 3; n += 1) {
    assert.match((await loadModule("aperture_no_such_module", 20_000)) ?? "", /no modprobe|ended with|could not be started/);
    assert.equal(openDescriptors(), before);
  }
});
