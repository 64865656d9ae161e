import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { globMatches, globProblem, LONGEST_GLOB } from "../../../src/broker/glob.js";

describe("[pure] path patterns", () => {
  it("stand for the whole path", () => {
    const cases: readonly (readonly [string, string, boolean])[] = [
      ["/usr/bin/qemu", "/usr/bin/qemu", true],
      ["/usr/bin/qemu", "/usr/bin/qemu2", false],
      ["/usr/bin/qemu", "/x/usr/bin/qemu", false],
      ["/usr/bin/*", "/usr/bin/qemu", true],
      ["/usr/bin/*", "/usr/bin/", true],
      ["/usr/bin/*", "/usr/bin/a/b", false],
      ["/usr/*/qemu", "/usr/bin/qemu", true],
      ["/usr/*/qemu", "/usr/local/bin/qemu", false],
      ["/usr/**/qemu", "/usr/local/bin/qemu", true],
      ["/usr/**", "/usr/", true],
      ["/usr/**", "/usr", false],
      ["**", "/any/thing", true],
      ["**/qemu-*", "/opt/x/qemu-1", true],
      ["**/qemu-*", "/opt/x/qemu-1/y", false],
      ["/a*b*c", "/abbbc", true],
      ["/a*b*c", "/ab/c", false],
      ["/a?c", "/abc", false],
      ["/a?c", "/a?c", true],
      ["/a[bc]", "/ab", false],
      ["/a.c", "/abc", false],
      ["/a*", "/a\nb", true],
    ];
    for (const [pattern, text, expected] of cases) assert.equal(globMatches(pattern, text), expected, `${pattern} ${text}`);
  });

  it("agree with a plain definition by recursion", () => {
    const slow = (pattern: string, text: string): boolean => {
      if (pattern === "") return text === "";
      if (pattern.startsWith("**")) {
        for (let i = 0; i <= text.length; i += 1) if (slow(pattern.slice(2), text.slice(i))) return true;
        return false;
      }
      if (pattern.startsWith("*")) {
        for (let i = 0; i <= text.length; i += 1) {
          if (slow(pattern.slice(1), text.slice(i))) return true;
          if (text[i] === "/") return false;
        }
        return false;
      }
      return text !== "" && pattern[0] === text[0] && slow(pattern.slice(1), text.slice(1));
    };
    const word = (letters: readonly string[]): fc.Arbitrary<string> =>
      fc.array(fc.constantFrom(...letters), { maxLength: 8 }).map((list) => list.join(""));
    fc.assert(
      fc.property(word(["/", "a", "b", "*", "**"]), word(["/", "a", "b"]), (pattern, text) => {
        fc.pre(!pattern.includes("***"));
        assert.equal(globMatches(pattern, text), slow(pattern, text));
      }),
      { numRuns: 5_000 },
    );
  });

  it("take no more than their product of steps, however they are made", () => {
    const pattern = `${"/*a".repeat(LONGEST_GLOB / 4)}b`;
    const text = "/a".repeat(2_048);
    const begin = process.cpuUsage();
    assert.equal(globMatches(pattern, text), false);
    const { user } = process.cpuUsage(begin);
    // By backtracking this would not end. The bound is a hundred times what it takes.
    assert.ok(user < 5_000_000, `${user} us`);
  });

  it("are refused when they can match no path, or not what was meant", () => {
    for (const good of ["/", "/usr/bin/*", "**", "**/qemu"]) assert.equal(globProblem(good), null, good);
    for (const bad of ["", "usr/bin", "*/qemu", "/a\0b", "/a\nb", "/***", `/${"a".repeat(LONGEST_GLOB)}`])
      assert.notEqual(globProblem(bad), null, bad);
  });
});
