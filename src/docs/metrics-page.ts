// docs/METRICS.md from src/telemetry.

import { DEFAULT_METRICS, METRICS, type MetricRow, REASON_LABELS } from "../telemetry/metric-table.js";
import { code, table } from "./markdown.js";

function labels(row: Pick<MetricRow, "labels">): string {
  const parts = Object.entries(row.labels).map(([label, all]) => {
    const values = all === REASON_LABELS ? "one of [REASONS.md](REASONS.md)" : all;
    return typeof values === "string" ? `${code(label)}: ${values}` : `${code(label)}: ${values.map(code).join(", ")}`;
  });
  return parts.join("; ");
}

export function metricsPage(): string {
  return `# Metrics

What \`http://127.0.0.1:9476/metrics\` shows (setting \`metrics.listen\`). Made from \`src/telemetry/metric-table.ts\` by \`npm run docs\`; a test compares this page with a running
daemon, in both directions. Names and label values are stable. No label ever holds a process, a lease, a request or any text of a client: the number of series is bounded by the
code and by the host's devices.

Facts of a device that do not change are in \`aperture_device_info\`: join them, for example
\`aperture_device_state{state="quarantined"} * on (pci_address) group_left (driver, vendor_id) aperture_device_info\`.
The age of a quarantine is \`time() - aperture_device_quarantine_start_timestamp_seconds\`. Descriptors against their limit: \`process_open_fds / process_max_fds\`.

Methods that this server does not have are answered by the gRPC library before anything here sees them: they are not counted.

${table(
  ["metric", "type", "unit", "meaning", "labels"],
  Object.entries(METRICS as Readonly<Record<string, MetricRow>>).map(([name, row]) => [
    code(name),
    row.type,
    row.unit,
    row.help,
    labels(row),
  ]),
)}

## Of the process and of Node

Made by prom-client, with its own help texts.

${table(
  ["metric", "type", "unit", "labels"],
  Object.entries(DEFAULT_METRICS).map(([name, row]) => [code(name), row.type, row.unit, labels(row)]),
)}
`;
}
