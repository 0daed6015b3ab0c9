// What is said on the diagnostics channels of the datagrams that come in.
import { channel } from 'node:diagnostics_channel';
import type { DatagramInfo, InterceptedDatagramSocket } from './types.ts';

/** `original-dst:datagram`: one has come in; published ahead of `'message'`. */
export interface DatagramMessage {
  socket: InterceptedDatagramSocket;
  data: Buffer;
  info: DatagramInfo;
}

export const datagrams = channel('original-dst:datagram');
