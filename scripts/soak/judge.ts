// Whether what a client of the soak saw is true, by what the proxy has recorded of it.
import type { ConnectionRecord } from '../../lib/index.ts';
import type { Seen, Visit } from './client.ts';

/**
 * `silence`: the proxy's limit has ended a connection in which nothing moved any more, and nothing that it had taken was
 * lost. `undecided`: the policy has not come to a decision in time, which it does on purpose now and then. `wrong`: bytes that were not sent, or an end that nobody has made.
 */
export type Fate = Exclude<Seen, 'cut' | 'false bytes'> | 'silence' | 'undecided' | 'wrong';

/**
 * By the record, and not by how long ago the client has heard something: its process may be late with everything, and
 * then reads the last bytes and the end behind a silence in one go.
 */
export function fateOf({ seen, got }: Visit, record: ConnectionRecord | undefined): Fate {
  if (seen === 'false bytes') return 'wrong';
  if (seen === 'reset' && record?.outcome === 'ERR_DECISION_TIMEOUT') return 'undecided';
  if (seen !== 'cut') return seen;
  return record?.outcome === 'idle' && record.bytesToClient === got ? 'silence' : 'wrong';
}
