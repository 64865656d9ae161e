// Runs the bundle named first with the flags that follow, waits until the daemon has made its sockets, writes the code cache beside the bundle and ends.

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const [bundle, ...flags] = process.argv.slice(2);
const channel = `${flags[flags.indexOf("--socket") + 1]}.channel`;
const script = new vm.Script(fs.readFileSync(bundle, "utf8"), { filename: bundle });
process.argv = [process.argv[0], bundle, ...flags];
fs.watch(path.dirname(channel), () => {
  if (!fs.existsSync(channel)) return;
  // One turn later everything that follows the sockets has run as well.
  setTimeout(() => {
    fs.writeFileSync(`${bundle}.cache`, script.createCachedData());
    process.exit(0);
  }, 500);
});
script.runInThisContext()(require, path.dirname(bundle));
