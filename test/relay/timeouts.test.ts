// The times that a relay has by default, as their documentation says: none is without a limit.
import t from 'tap';
import { readTimeouts } from '../../lib/relay/timeouts.ts';

t.match(readTimeouts({}), { idle: 7_440_000, halfClose: 240_000, connect: 10_000, deadPeer: 120_000 });
