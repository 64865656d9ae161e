// Capability lists of config space: good ones, and lists that a device or a third-party driver should not show.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ReadWord, readMsix, readTranslation } from "../../../src/host/config-space.js";

class Config {
  readonly bytes: Buffer;
  reads = 0;

  constructor(size = 4096) {
    this.bytes = Buffer.alloc(size);
    this.bytes.writeUInt32LE(0x03020001, 8);
  }

  /** Capabilities from 0x40 on, each linked to the next. */
  list(...capabilities: readonly (readonly [number, readonly number[]])[]): this {
    this.bytes.writeUInt32LE(0x0010_0000, 4);
    this.bytes[0x34] = 0x40;
    let at = 0x40;
    for (const [index, [id, words]] of capabilities.entries()) {
      const next = index === capabilities.length - 1 ? 0 : at + 16;
      this.bytes[at] = id;
      this.bytes[at + 1] = next;
      for (const [word, value] of words.entries()) {
        if (word === 0) this.bytes.writeUInt16LE(value, at + 2);
        else this.bytes.writeUInt32LE(value >>> 0, at + 4 * word);
      }
      at += 16;
    }
    return this;
  }

  extended(at: number, id: number, next: number, word = 0): this {
    this.bytes.writeUInt32LE(((next << 20) | (1 << 16) | id) >>> 0, at);
    this.bytes.writeUInt32LE(word, at + 4);
    return this;
  }

  readonly read: ReadWord = async (offset) => {
    this.reads += 1;
    assert.equal(offset % 4, 0, "one aligned register a read");
    return offset + 4 <= this.bytes.length ? this.bytes.readUInt32LE(offset) : null;
  };
}

describe("[pure] MSI-X in config space", () => {
  test("behind other capabilities: vectors, table and pending bits", async () => {
    const config = new Config().list([0x01, []], [0x05, []], [0x11, [0x8081, 0x3000 | 3, 0x20_0000 | 4]]);
    assert.deepEqual(await readMsix(config.read), {
      vectors: 130,
      table: { bar: 3, offset: 0x3000n, size: 2080n },
      pending: { bar: 4, offset: 0x20_0000n, size: 24n },
    });
  });

  test("an offset in the upper half of 4 GiB stays positive", async () => {
    const config = new Config().list([0x11, [0, 0xffff_fff8, 0xffff_fff9]]);
    const msix = await readMsix(config.read);
    assert.deepEqual([msix?.vectors, msix?.table.offset, msix?.pending.bar], [1, 0xffff_fff8n, 1]);
  });

  test("none: no list, no such capability, one that names no BAR, one that does not fit", async () => {
    assert.equal(await readMsix(new Config().read), null);
    assert.equal(await readMsix(new Config().list([0x05, []]).read), null);
    assert.equal(await readMsix(new Config().list([0x11, [0, 6, 0]]).read), null);
    assert.equal(await readMsix(new Config().list([0x11, [0, 0, 7]]).read), null);
    const atTheEnd = new Config().list([0x05, []]);
    atTheEnd.bytes[0x41] = 0xf8;
    atTheEnd.bytes[0xf8] = 0x11;
    assert.equal(await readMsix(atTheEnd.read), null);
  });

  test("a list that loops, points at itself or into the header ends", async () => {
    for (const next of [0x40, 0x50, 0x04, 0x34]) {
      const config = new Config().list([0x01, []], [0x05, []]);
      config.bytes[0x51] = next;
      assert.equal(await readMsix(config.read), null);
      assert.ok(config.reads < 60, `${config.reads} reads`);
    }
  });
});

describe("[pure] address translation in extended config space", () => {
  test("ATS, PRI and PASID with its width", async () => {
    const config = new Config().extended(0x100, 0x01, 0x148).extended(0x148, 0x0f, 0x200).extended(0x200, 0x13, 0x300);
    config.extended(0x300, 0x1b, 0, 0x1406);
    assert.deepEqual(await readTranslation(config.read), { ats: true, pri: true, pasid: true, pasidBits: 20 });
  });

  test("a width that cannot be is none", async () => {
    for (const word of [0, 0x1f00]) {
      const config = new Config().extended(0x100, 0x1b, 0, word);
      assert.deepEqual(await readTranslation(config.read), { ats: false, pri: false, pasid: true, pasidBits: null });
    }
  });

  test("conventional PCI has none; an empty extended space neither", async () => {
    const none = { ats: false, pri: false, pasid: false, pasidBits: null };
    assert.deepEqual(await readTranslation(new Config(256).read), none);
    assert.deepEqual(await readTranslation(new Config().read), none);
  });

  test("a virtual function, whose vendor id reads as ones, is read all the same", async () => {
    const config = new Config().extended(0x100, 0x0f, 0);
    config.bytes.writeUInt32LE(0xffff_ffff, 0);
    assert.equal((await readTranslation(config.read))?.ats, true);
  });

  test("64 bytes, as without CAP_SYS_ADMIN, or a device that does not answer: not known, not none", async () => {
    assert.equal(await readTranslation(new Config(64).read), null);
    const gone = new Config();
    gone.bytes.fill(0xff);
    assert.equal(await readTranslation(gone.read), null);
  });

  test("a list that loops ends", async () => {
    const config = new Config().extended(0x100, 0x01, 0x200).extended(0x200, 0x02, 0x100);
    assert.equal((await readTranslation(config.read))?.ats, false);
    assert.ok(config.reads < 500, `${config.reads} reads`);
  });
});
