// What is said on the diagnostics channels of the connections that are dialled.
import { channel } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import type { ProxyServer } from './proxy-server.ts';

/** A place that is dialled: an address, or a name that is still to be resolved. */
export interface DialTarget {
  address?: string | undefined;
  name?: string | undefined;
  port: number;
}

/** Of a dial, whoever makes it. */
export interface DialedPlaces {
  /** In the order in which they are tried: more than one only where a policy of a relay server has said so. */
  to: readonly DialTarget[];
  /** By way of this proxy. What it is told to let us in is not in here. */
  via?: Pick<ProxyServer, 'protocol' | 'address' | 'port'> | undefined;
}

/** `original-dst:dial` of connect(), connectOriginal() and connectVia(): the socket tells how it ends. */
export interface SocketDialMessage extends DialedPlaces {
  socket: Socket;
}

export const dials = channel('original-dst:dial');

/** To be called when there is somebody to be told. */
export function publishDial(about: object, to: readonly DialTarget[], via?: ProxyServer): void {
  const places: DialedPlaces = {
    to: to.map(({ address, name, port }) => (name === undefined ? { address, port } : { name, port })),
    ...(via && { via: { protocol: via.protocol, address: via.address, port: via.port } }),
  };
  dials.publish({ ...about, ...places });
}
