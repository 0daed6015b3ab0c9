// A server whose connections a thread of the addon accepts, dials and relays: a transparent proxy in one call.
import { binding } from '../binding.ts';
import { NativeRelayServer } from './native-server.ts';
import { checkServerOptions, type RelayServerOptions } from './server-options.ts';
import type { RelayServer } from './types.ts';

/**
 * A transparent proxy in one call: `accept4(2)`, SO_ORIGINAL_DST, a policy in TypeScript, `connect(2)` to the
 * destination, {@link relay}.
 *
 * A policy that answers `{ action, ttl }` is not asked again about the same address and port for so long (with
 * `inspect`: the same address, port, protocol, name and `ech`): a thread of
 * the addon then accepts, recovers, dials and relays such connections without a line of JavaScript. It does so only
 * when the kernel's facts alone say where a connection was going; everything else comes to `decide`, also what TypeScript
 * would have to find out more about. Destinations on this host always do, because of loops. `revoke()` takes verdicts
 * back; do so after changing a BlockList of `egress`, which is consulted when a verdict is made.
 *
 * `decide` may take its time: the client waits, and is sent RST after `decisionTimeout`; see {@link PendingConnection}.
 *
 * What becomes of every connection that comes to `decide` is published on the diagnostics channels
 * ({@link DiagnosticsMessages}), as of those of createServer, with `client` (an {@link Endpoint}) in place of `socket`.
 *
 * Events: `'listening'`; `'relay'` (relay, destination, client, first) for connections that `decide` had relayed, whose
 * outcome tells too when the loop guard, the egress policy or the network refused the dial; `'connection'` for those
 * with verdict `'emit'`; `'error'`, also with what `decide` throws (that client is sent RST); `'close'`, when every relay has ended.
 *
 * @throws argument errors (`ERR_INVALID_ARG_VALUE` for an option that it does not have), `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`. On Bun and Deno the verdict `'emit'` is an
 *   `'error'` `ERR_UNSUPPORTED_RUNTIME`.
 * Capability: CAP_NET_ADMIN or CAP_NET_RAW for `transparent`, `mark` and `preserveSource`. Source: ip(7), splice(2),
 * epoll(7).
 */
export function createRelayServer(options: RelayServerOptions): RelayServer {
  checkServerOptions(options);
  const server = new NativeRelayServer(options);
  binding();
  return server;
}
