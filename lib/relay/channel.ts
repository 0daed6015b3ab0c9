// What is said on the diagnostics channels of relays, and of what a relay server dials.
import { channel } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import type { Endpoint } from '../address.ts';
import type { DialedPlaces } from '../dial/channel.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { RelayDestination } from './destination.ts';
import type { Relay } from './relay-object.ts';
import type { RelayServer } from './types.ts';

/** Whose relay it is, of a relay server. */
export interface RelaySubject {
  server: RelayServer;
  client: Endpoint;
  originalDst: OriginalDst;
  relay: Relay;
}

/** `original-dst:dial` of a relay server or of relay(), which dial without a socket: `relay` tells how it ends. */
export type RelayDialMessage = (RelaySubject | { relay: Relay }) & DialedPlaces;

/** `original-dst:relay`: two connections are joined from now on, by a relay server or by relay(). */
export type RelayMessage =
  | RelaySubject
  | { relay: Relay; sockets: { client: Socket; upstream: Socket } }
  /** One of them is still to be dialled. */
  | { relay: Relay; sockets: { client: Socket; upstream?: undefined }; destination: RelayDestination };

export const relays = channel('original-dst:relay');
