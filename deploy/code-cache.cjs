// Runs the bundle named first with the flags that follow, lets the command line tool list the devices, writes the code cache beside the bundle and ends: the cache then holds
// what a start and a first call need.

const { execFile } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const [bundle, ...flags] = process.argv.slice(2);
const folder = path.dirname(bundle);
const socket = flags[flags.indexOf("--socket") + 1];
const script = new vm.Script(fs.readFileSync(bundle, "latin1"), { filename: bundle });
process.argv = [process.argv[0], bundle, ...flags];
const watcher = fs.watch(path.dirname(socket), () => {
  if (!fs.existsSync(`${socket}.channel`)) return;
  watcher.close();
  execFile(process.execPath, [path.join(folder, "src/cli/main.js"), "--socket", socket, "devices"], { timeout: 30_000 }, (error) => {
    if (error) throw error;
    fs.writeFileSync(`${bundle}.cache`, script.createCachedData());
    process.exit(0);
  });
});
script.runInThisContext()(require, folder);
