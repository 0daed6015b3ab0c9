// What the policy of a capture calls what a connection's first bytes are.
import type { FirstBytes } from '../names/first-bytes.ts';

export const SPOKEN = {
  tls: 'tls',
  http: 'http',
  http2: 'http',
  other: 'tcp',
  silent: 'tcp',
} as const satisfies Record<FirstBytes['protocol'], string>;
