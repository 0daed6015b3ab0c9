// server.listen({ namespace }): net.Server knows no namespaces, but listens on a descriptor from one.
import type { ListenOptions, Server } from 'node:net';
import { canonicalAddress } from '../address.ts';
import { checkInteger, invalidType } from '../arguments.ts';
import { binding } from '../binding.ts';
import { dialError } from '../dial/dial-error.ts';
import { systemError } from '../errors.ts';
import { checkNamespace, type Namespace } from '../namespace/namespace.ts';

/** Options of server.listen on an intercepted server: those of net.Server, and: */
export interface InterceptListenOptions extends ListenOptions {
  /** Listen in this network namespace; `host` is a literal address of it. Default: in the calling thread's. */
  namespace?: Namespace;
}

/** A descriptor that is bound, or why there is none. */
function bindInside(
  { port = 0, host, ipv6Only = false }: InterceptListenOptions,
  fd: number,
): number | Error {
  const bound = binding().bindListener(host ?? null, port, ipv6Only, fd);
  if (typeof bound === 'number') return bound;
  const [errno, step] = bound;
  const at = { address: host ?? '::', port };
  const error = dialError(errno, step, { source: at });
  return error.syscall === 'bind' ? systemError(errno, { syscall: 'listen', ...at }) : error;
}

function listensInside(options: unknown): options is InterceptListenOptions & { namespace: Namespace } {
  return (
    typeof options === 'object' &&
    options !== null &&
    'namespace' in options &&
    options.namespace !== undefined
  );
}

/** Lets `listen` of a server take the option `namespace`. Every other call is Node's own. */
export function listenInside(server: Server): void {
  const own = Object.hasOwn(server, 'listen') ? server.listen : undefined;
  const listen = function (this: Server, ...args: unknown[]): Server {
    const listenOfNode = own ?? (Object.getPrototypeOf(server) as Server).listen;
    const [options, ...rest] = args;
    if (!listensInside(options)) return Reflect.apply(listenOfNode, this, args) as Server;
    const { namespace, port, host, path: _path, ipv6Only: _only, ...others } = options;
    checkNamespace('options.namespace', namespace);
    if (port !== undefined) checkInteger('options.port', port, 0, 65535);
    if (host !== undefined && canonicalAddress(host) === undefined)
      throw invalidType('options.host', 'a literal IP address', host);
    const bound = bindInside(options, namespace.fd);
    if (bound instanceof Error) {
      process.nextTick(() => this.emit('error', bound));
      return this;
    }
    // Exclusive: the primary of a cluster would make a socket of its own, out there.
    return Reflect.apply(listenOfNode, this, [{ ...others, fd: bound, exclusive: true }, ...rest]) as Server;
  };
  Object.defineProperty(server, 'listen', { value: listen, writable: true, configurable: true });
}
