// Scrapes a page COUNT times over one connection, as Prometheus does, and reads each to its end.
// Usage: scrape.js URL COUNT LINE   (LINE: how a line begins that has to be there)

import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { median } from "../harness/statistics.js";

const [url = "", count = "1", line = ""] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const took: number[] = [];
let bytes = 0;
for (let i = 0; i < Number(count); i += 1) {
  const begin = performance.now();
  const [response] = (await once(get(url, { agent }), "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  took.push(performance.now() - begin);
  const text = Buffer.concat(chunks);
  bytes = text.length;
  if (response.statusCode !== 200 || !text.includes(`\n${line}`)) throw new Error(`${url} answers ${response.statusCode} without ${line}`);
}
process.stdout.write(`${JSON.stringify({ milliseconds: median(took), bytes })}\n`);
process.exit(0);
