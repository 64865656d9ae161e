// Services that grpc-js knows by their methods' names alone until somebody calls one. Only then are their codecs made, and where a library implements them, the library is
// loaded.

import type { Server, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";

/** A service of src/generated/services.ts. */
export interface ServiceShape {
  readonly [method: string]: MethodShape;
}

interface MethodShape {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly originalName: string;
}

/** The service's definition, whose codecs are those of made(), called when the first of them is needed. */
export function lateDefinition(shape: ServiceShape, made: () => ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(shape).map(([name, method]) => {
      const real = () => {
        const found = made()[name];
        if (!found) throw new Error(`${method.path} is declared nowhere`);
        return found;
      };
      return [
        name,
        {
          ...method,
          requestSerialize: (value: unknown) => real().requestSerialize(value),
          requestDeserialize: (bytes: Buffer) => real().requestDeserialize(bytes),
          responseSerialize: (value: unknown) => real().responseSerialize(value),
          responseDeserialize: (bytes: Buffer) => real().responseDeserialize(bytes),
        },
      ];
    }),
  );
}

/** What libraries do to a server to serve on it. */
export interface Addable {
  addToServer(server: Server): void;
}

/** Adds the services that a library implements, without the library: it is loaded at the first call of one of them. */
export function addLate(server: Server, shapes: readonly ServiceShape[], load: () => Addable): void {
  let loaded: ReadonlyMap<string, readonly [ServiceDefinition, UntypedServiceImplementation]> | null = null;
  const real = (shape: ServiceShape): readonly [ServiceDefinition, UntypedServiceImplementation] => {
    loaded ??= added(load());
    const found = loaded.get(serviceOf(shape));
    if (!found) throw new Error(`the library does not implement ${serviceOf(shape)}`);
    return found;
  };
  for (const shape of shapes) {
    const definition = lateDefinition(shape, () => real(shape)[0]);
    const methods = Object.entries(shape).map(([name, { path, originalName }]) => {
      const handle = (...call: readonly unknown[]): void => {
        const implementation = real(shape)[1];
        const serve = (implementation[name] ?? implementation[originalName]) as ((...call: readonly unknown[]) => void) | undefined;
        if (!serve) throw new Error(`the library does not implement ${path}`);
        serve(...call);
      };
      return [name, handle];
    });
    server.addService(definition, Object.fromEntries(methods));
  }
}

/** What the library would have added to a server. */
function added(library: Addable): ReadonlyMap<string, readonly [ServiceDefinition, UntypedServiceImplementation]> {
  const services = new Map<string, readonly [ServiceDefinition, UntypedServiceImplementation]>();
  const addService = (definition: ServiceDefinition, implementation: UntypedServiceImplementation): void =>
    void services.set(serviceOf(definition), [definition, implementation]);
  library.addToServer({ addService } as unknown as Server);
  return services;
}

function serviceOf(service: ServiceShape | ServiceDefinition): string {
  return Object.values(service)[0]?.path.split("/")[1] ?? "";
}
