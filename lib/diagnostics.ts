// The diagnostics channels by their names.
import type { ConnectionMessage, DecisionMessage, ErrorMessage } from './accept/channels.ts';
import type { SocketDialMessage } from './dial/channel.ts';
import type { RelayDialMessage, RelayMessage } from './relay/channel.ts';
import type { DatagramMessage } from './udp/channel.ts';

/**
 * What `node:diagnostics_channel` carries, by the name of the channel. A message is made only while somebody has
 * subscribed to its channel. What a thread deals with by itself, by a lasting verdict, is not published: the event
 * `'records'` of a relay server tells of it.
 */
export interface DiagnosticsMessages {
  'original-dst:connection': ConnectionMessage;
  'original-dst:decision': DecisionMessage;
  'original-dst:dial': SocketDialMessage | RelayDialMessage;
  'original-dst:relay': RelayMessage;
  'original-dst:datagram': DatagramMessage;
  'original-dst:error': ErrorMessage;
}
