// Pages that are generated from tables of the code, so that they cannot fall behind it. `npm run docs` writes them; a test fails when one is not what the tables say.
// A new page is one line here. This folder may read every layer; nothing imports it, and nothing at run time needs it.

import { apiPage } from "./api-page.js";
import { cliPage } from "./cli-page.js";
import { configPage } from "./config-page.js";
import { loggingPage } from "./logging-page.js";
import { aperturectlPage } from "./man-aperturectl.js";
import { aperturedPage, aperturetomlPage } from "./man-daemon.js";
import { metricsPage } from "./metrics-page.js";
import { reasonsPage } from "./reasons-page.js";

export interface Page {
  /** From the root of the checkout. */
  readonly path: string;
  readonly text: () => string;
}

export const PAGES: readonly Page[] = [
  { path: "docs/API.md", text: apiPage },
  { path: "docs/CLI.md", text: cliPage },
  { path: "docs/CONFIG.md", text: configPage },
  { path: "docs/man/apertured.8", text: aperturedPage },
  { path: "docs/man/aperture.toml.5", text: aperturetomlPage },
  { path: "docs/man/aperturectl.1", text: aperturectlPage },
  { path: "docs/METRICS.md", text: metricsPage },
  { path: "docs/LOGGING.md", text: loggingPage },
  { path: "docs/REASONS.md", text: reasonsPage },
];
