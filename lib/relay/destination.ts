// Where relay() is to dial by itself, in place of being given a socket.
import type { Socket } from 'node:net';
import { canonicalAddress, type Endpoint } from '../address.ts';
import { checkInteger, checkKnown, checkString, invalidType } from '../arguments.ts';
import { binding } from '../binding.ts';
import { isSpecial, noDescriptors, OF_THE_SOCKET } from '../dial/attempt.ts';
import {
  checkDialOptions,
  dial,
  type DialOptions,
  type DialSource,
  sourceMismatch,
  told,
} from '../dial/connect.ts';
import { codedError } from '../errors.ts';
import { foreignRuntimeName } from '../node/runtime.ts';
import { acceptedUnder } from '../node/socket-fd.ts';
import { pathOf } from '../policy/own-dials.ts';

/** How relay() dials, where it does: those of {@link DialOptions} that are about more than a socket object. */
export type RelayDialOptions = Pick<
  DialOptions,
  'source' | 'portFallback' | 'transparent' | 'freebind' | 'mark' | 'interface' | 'namespace' | 'egress'
>;

const DIAL_OPTIONS: readonly (keyof RelayDialOptions)[] = [...OF_THE_SOCKET, 'egress'];

/** Where relay() can dial: an IP address and a port; an {@link OriginalDst} that is known is one. */
export type RelayDestination = Pick<Endpoint, 'address' | 'port'>;

/** A destination in canonical form, and how to dial it. */
export interface Dialled extends RelayDestination {
  readonly how: Omit<RelayDialOptions, 'source'> & { source?: Required<DialSource> };
}

/** Throws unless it can be dialled in that way. */
export function readDestination(destination: unknown, options: unknown): Dialled {
  if (typeof destination !== 'object' || destination === null)
    throw invalidType('upstream', 'an instance of net.Socket, or an address and port', destination);
  const { address: text, port } = destination as RelayDestination;
  checkString('upstream.address', text);
  checkInteger('upstream.port', port, 0, 65535);
  const address = canonicalAddress(text);
  if (address === undefined) {
    throw codedError(
      'ERR_INVALID_ARG_VALUE',
      `"upstream.address" must be an IP address. Received '${text}'`,
      {
        base: TypeError,
        hint: 'pass `connect({ address, port })`, which takes names',
      },
    );
  }
  if (options === undefined) return { address, port, how: {} };
  checkDialOptions(options);
  checkKnown('options.dial', options, DIAL_OPTIONS);
  const { source: from, ...how } = options as RelayDialOptions;
  if (isSpecial(options)) {
    if (foreignRuntimeName() !== undefined) throw noDescriptors();
    binding(); // a missing binary is the caller's error, now
  }
  if (from === undefined) return { address, port, how };
  const source = { port: from.port ?? 0, address: canonicalAddress(from.address)! };
  const mismatch = sourceMismatch(address, source.address);
  if (mismatch) throw mismatch;
  return { address, port, how: { ...how, source } };
}

/** Where only a socket of Node's will do. */
export function dialSocket(to: Dialled, client: Socket, connectTimeout: number): Socket {
  const { address, port } = to;
  return told(
    dial({ ...to.how, address, port, connectTimeout, allowHalfOpen: true }, pathOf(acceptedUnder(client))),
    to,
  );
}
