// The HTTP endpoint: /metrics for Prometheus, /healthz and /readyz for whoever restarts daemons.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Metrics } from "./metrics.js";

export interface ScrapeDeps {
  readonly metrics: Metrics;
  readonly ready: () => boolean;
  readonly onFault: (where: string, error: unknown) => void;
}

/** Node looks at its own deadlines only every 30 s unless told: so long could a few silent connections keep Prometheus out. */
const TIMES = { requestTimeout: 2_000, headersTimeout: 2_000, connectionsCheckingInterval: 500, maxHeaderSize: 8_192 };

export class ScrapeServer {
  readonly #server: Server;

  constructor({ metrics, ready, onFault }: ScrapeDeps) {
    this.#server = createServer(TIMES, (request, response) => {
      const answer = (status: number, type: string, body: string): void => {
        response.writeHead(status, { "content-type": type }).end(body);
      };
      if (request.method !== "GET") return answer(405, "text/plain", "GET only\n");
      if (request.url === "/healthz") return answer(200, "text/plain", "ok\n");
      if (request.url === "/readyz") return ready() ? answer(200, "text/plain", "ok\n") : answer(503, "text/plain", "not ready\n");
      if (request.url !== "/metrics") return answer(404, "text/plain", "try /metrics, /healthz or /readyz\n");
      metrics.page().then(
        (parts) => {
          const length = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
          response.writeHead(200, { "content-type": metrics.contentType, "content-length": length });
          // One writev of all.
          response.cork();
          for (const part of parts) response.write(part);
          response.end();
        },
        (error: unknown) => {
          onFault("scrape", error);
          answer(500, "text/plain", "the metrics could not be made; see the daemon's log\n");
        },
      );
    });
    this.#server.maxConnections = 16;
  }

  /** value: the address it listens on; problem: why it cannot. */
  listen(
    host: string,
    port: number,
  ): Promise<{ readonly address: string; readonly problem: null } | { readonly address: null; readonly problem: NodeJS.ErrnoException }> {
    return new Promise((resolve) => {
      this.#server.once("error", (problem) => resolve({ address: null, problem }));
      this.#server.listen(port, host, () => {
        const bound = this.#server.address() as AddressInfo;
        resolve({ address: `http://${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}`, problem: null });
      });
    });
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
