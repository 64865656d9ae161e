// grpc.health.v1 for the daemon and each of its services, which serve or do not serve together.

import type { Server } from "@grpc/grpc-js";
import type { HealthImplementation } from "grpc-health-check";
import { SERVICES } from "../generated/services.js";
import { addLate } from "./late-service.js";
import { health } from "./libraries.js";

const SERVED = [
  "",
  "aperture.v1.DeviceService",
  "aperture.v1.LeaseService",
  "aperture.v1.HostService",
  "aperture.v1.VmmService",
  "aperture.v1.DriverService",
] as const;

export class HealthService {
  #status: "SERVING" | "NOT_SERVING" = "NOT_SERVING";
  /** Made when somebody first asks. */
  #asked: HealthImplementation | null = null;

  addTo(server: Server): void {
    addLate(server, [SERVICES["grpc.health.v1.Health"]], () => {
      this.#asked = new (health().HealthImplementation)(Object.fromEntries(SERVED.map((name) => [name, this.#status])));
      return this.#asked;
    });
  }

  setServing(serving: boolean): void {
    this.#status = serving ? "SERVING" : "NOT_SERVING";
    for (const name of SERVED) this.#asked?.setStatus(name, this.#status);
  }
}
