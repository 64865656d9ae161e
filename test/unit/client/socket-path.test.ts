import assert from "node:assert/strict";
import { test } from "node:test";
import { channelPath, defaultSocketPath, fitsSocketAddress } from "../../../src/client/socket-path.js";

const SYSTEM = "/run/aperture/aperture.sock";

function choose(env: Record<string, string>, uid: number, existing: readonly string[]): string {
  return defaultSocketPath({ env, uid, exists: (path) => existing.includes(path) });
}

test("APERTURE_SOCKET wins, and a relative one is made absolute [pure]", () => {
  assert.equal(choose({ APERTURE_SOCKET: "/srv/a.sock", XDG_RUNTIME_DIR: "/run/user/7" }, 7, [SYSTEM]), "/srv/a.sock");
  assert.equal(choose({ APERTURE_SOCKET: "a.sock" }, 7, []), `${process.cwd()}/a.sock`);
});

test("the system's daemon, then this user's [pure]", () => {
  assert.equal(choose({ XDG_RUNTIME_DIR: "/run/user/7" }, 7, [SYSTEM]), SYSTEM);
  assert.equal(choose({ XDG_RUNTIME_DIR: "/run/user/7" }, 7, []), "/run/user/7/aperture/aperture.sock");
  assert.equal(choose({}, 7, []), "/tmp/aperture-7/aperture.sock");
  assert.equal(choose({ APERTURE_SOCKET: "" }, 7, []), "/tmp/aperture-7/aperture.sock");
});

test("root's daemon is the system's, whatever root's session says [pure]", () => {
  assert.equal(choose({ XDG_RUNTIME_DIR: "/run/user/0" }, 0, []), SYSTEM);
});

test("the channel stands beside the socket, and must fit a socket address too [pure]", () => {
  assert.equal(channelPath("/a/b.sock"), "/a/b.sock.channel");
  assert.equal(fitsSocketAddress(`/${"x".repeat(98)}`), true);
  assert.equal(fitsSocketAddress(`/${"x".repeat(99)}`), false);
  assert.equal(fitsSocketAddress(`/${"é".repeat(50)}`), false);
});
