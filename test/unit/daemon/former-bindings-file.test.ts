// The file that decides which driver a device goes back to: only the daemon's own is read, and only of this boot.

import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { Address } from "../../../src/broker/device.js";
import { FormerBindingsFile } from "../../../src/daemon/former-bindings-file.js";

const UID = process.geteuid?.() ?? 0;
const FORMER = { address: "0000:01:00.0" as Address, driver: "nvme", override: "", boundTo: "vfio-pci" };

describe("[pure] the file of former drivers", () => {
  let folder: string;
  let path: string;
  const file = (backend: "IOMMUFD" | "SIMULATED" = "IOMMUFD", uid = UID) => new FormerBindingsFile(path, uid, backend);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "aperture-former-"));
    path = join(folder, "a.sock.drivers");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("is nothing before the first device, and then what was kept last", async () => {
    assert.deepEqual(await file().load(), []);
    await file().save([FORMER, { ...FORMER, address: "0000:02:00.0" as Address, driver: "", override: "x" }]);
    await file().save([FORMER]);
    assert.deepEqual(await file().load(), [FORMER]);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it("of another boot, or of made-up devices, is nothing", async () => {
    await file().save([FORMER]);
    assert.deepEqual(await file("SIMULATED").load(), []);
    const kept = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify({ ...kept, boot: "another" }));
    assert.deepEqual(await file().load(), []);
  });

  it("that others can write, that somebody else has, that is a link or no JSON is not read, and says so", async () => {
    await file().save([FORMER]);
    chmodSync(path, 0o620);
    await assert.rejects(file().load(), /not the daemon's own file/);
    chmodSync(path, 0o600);
    await assert.rejects(file("IOMMUFD", UID + 1).load(), /not the daemon's own file/);
    writeFileSync(path, "{");
    await assert.rejects(file().load(), SyntaxError);
    rmSync(path);
    symlinkSync("/etc/passwd", path);
    await assert.rejects(file().load(), /ELOOP/);
  });

  it("gives nothing for an entry that makes no sense", async () => {
    await file().save([FORMER]);
    const kept = JSON.parse(readFileSync(path, "utf8"));
    kept.devices.push(null, 5, { ...FORMER, address: "../etc" }, { ...FORMER, driver: "a b" }, { ...FORMER, boundTo: 1 });
    writeFileSync(path, JSON.stringify(kept));
    assert.deepEqual(await file().load(), [FORMER]);
  });
});
