// The gRPC server: our services, health and reflection on connections that the peer layer accepts. It never listens by itself.

import type { Socket } from "node:net";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { PackageDefinition } from "@grpc/proto-loader";
import type { Inventory } from "../broker/inventory.js";
import type { Leases } from "../broker/leases.js";
import type { Host } from "../broker/ports.js";
import type { Reason } from "../broker/refusal.js";
import type { MakeVmmArguments } from "../broker/vmm.js";
import { SERVICES } from "../generated/services.js";
import { type CallHooks, observing } from "./call-observer.js";
import { deviceService } from "./device-service.js";
import { driverService } from "./driver-service.js";
import { encodedDeviceService } from "./encoded-devices.js";
import { encodedLeaseService } from "./encoded-leases.js";
import { HealthService } from "./health.js";
import { type HostFacts, hostService, type ReloadReport } from "./host-service.js";
import { addLate } from "./late-service.js";
import { leaseService } from "./lease-service.js";
import { reflection } from "./libraries.js";
import { reflectedFiles, services } from "./protos.js";
import type { SessionLimits } from "./session.js";
import { makeUnary, type PeerLookup } from "./unary.js";
import type { TicketLimits } from "./validate.js";
import { VmmWords } from "./vmm-arguments.js";
import { vmmService } from "./vmm-service.js";
import { WatcherPlaces } from "./watching.js";

export interface RpcLimits extends TicketLimits, SessionLimits {
  readonly requestBytes: number;
  readonly streamsPerConnection: number;
  /** MiB that the HTTP/2 library may use for one connection. */
  readonly sessionMemoryMib: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Read at each new watch. */
  readonly watchers: number;
}

export interface RpcServerDeps extends CallHooks {
  readonly inventory: Inventory;
  readonly leases: Leases;
  readonly host: Host;
  readonly facts: HostFacts;
  readonly limits: RpcLimits;
  readonly reload: () => ReloadReport;
  readonly vmmArguments: MakeVmmArguments;
  readonly peerOf: PeerLookup;
  /** A call, or a request of a session, was refused. */
  readonly onRefused: (reason: Reason) => void;
  readonly onFault: (where: string, error: unknown) => void;
}

export class RpcServer {
  readonly #server: Server;
  readonly #health = new HealthService();
  readonly #injector: ReturnType<Server["createConnectionInjector"]>;
  #stopping = false;

  constructor(deps: RpcServerDeps) {
    this.#server = new Server({
      // A legal 4 MiB message (grpc-js's default bound) stalls the event loop for 0.8 s; the largest request of this API is far below 64 KiB.
      "grpc.max_receive_message_length": deps.limits.requestBytes,
      "grpc.max_concurrent_streams": deps.limits.streamsPerConnection,
      "grpc-node.max_session_memory": deps.limits.sessionMemoryMib,
      "grpc.enable_channelz": 0,
      // A stopped client is cut off after 50 s by default, no sooner: on a busy host a live one may not run for seconds. Its leases hang on its process, not on this
      // connection.
      "grpc.keepalive_time_ms": deps.limits.keepaliveMs,
      "grpc.keepalive_timeout_ms": deps.limits.keepaliveTimeoutMs,
      interceptors: [observing(deps)],
    });
    const unary = makeUnary(deps);
    const { inventory, leases, host, facts } = deps;
    const watchers = new WatcherPlaces(() => deps.limits.watchers, deps.onRefused);
    this.#server.addService(encodedDeviceService, { ...deviceService({ inventory, backend: host.backend, unary, watchers }) });
    const { peerOf, onFault, onRefused } = deps;
    const words = new VmmWords({ inventory, host, make: deps.vmmArguments });
    this.#server.addService(services.vmm, { ...vmmService({ leases, words, unary }) });
    this.#server.addService(encodedLeaseService, {
      ...leaseService({ leases, limits: deps.limits, words, unary, watchers, peerOf, onFault, onRefused, stopping: () => this.#stopping }),
    });
    this.#server.addService(services.host, { ...hostService({ host, facts, inventory, leases, reload: deps.reload, unary }) });
    this.#server.addService(services.driver, { ...driverService({ leases, unary, peerOf, onFault, onRefused }) });
    this.#health.addTo(this.#server);
    addLate(this.#server, [SERVICES["grpc.reflection.v1.ServerReflection"], SERVICES["grpc.reflection.v1alpha.ServerReflection"]], () => {
      // All that the library reads of a package definition is its file descriptors.
      const files = { schema: { fileDescriptorProtos: [...reflectedFiles()] } } as unknown as PackageDefinition;
      return new (reflection().ReflectionService)(files);
    });
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
  }

  /** Takes over an accepted connection. */
  inject(socket: Socket): void {
    this.#injector.injectConnection(socket);
  }

  setServing(serving: boolean): void {
    this.#health.setServing(serving);
  }

  /** Lets running calls end for graceMs, then cuts what is left. */
  async shutdown(graceMs: number): Promise<void> {
    this.#stopping = true;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.#server.forceShutdown();
        resolve();
      }, graceMs);
      // Says GOAWAY on every connection and waits for its calls. Not after injector.drain(): a session that is closing already counts as closed here, and is cut at once.
      this.#server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.#injector.destroy();
  }
}
