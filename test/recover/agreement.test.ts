// "Where was it going?" is decided in TypeScript. The relay thread, in C++, may say the same sooner or nothing: held
// to that with facts at random.
import { deepStrictEqual } from 'node:assert/strict';
import { constants } from 'node:os';
import * as fc from 'fast-check';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import { endpointAt, Role } from '../../lib/recover/kernel-answer.ts';
import { recoverFromFacts } from '../../lib/recover/original-dst.ts';
import { inNamespace } from '../fixtures/netns.ts';

const { EACCES, EADDRINUSE, ENOENT, ENOPROTOOPT, ENOTCONN, EOPNOTSUPP, ESTALE } = constants.errno;

// Few of each, so that addresses are often the same.
const PORTS = [80, 443, 15001];
const V4 = [
  [127, 0, 0, 1],
  [192, 0, 2, 1],
  [198, 51, 100, 7],
];
const V6 = [
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
  [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
];
const BOUND = ['0.0.0.0', '::', '127.0.0.1', '192.0.2.1', '::1', '198.51.100.7'];

interface Random {
  family: 4 | 6;
  addresses: [number, number, number, number];
  ports: [number, number, number, number];
  /** The interface that the connection came by: one for all its link-local addresses. */
  scope: number;
  statuses: [number, number, number];
  /** As of Facts: mostly no eBPF capture is concerned. */
  capture: number;
  listener: { address: string; port: number };
  localIsKnown: boolean;
}

const four = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<[T, T, T, T]> => fc.tuple(one, one, one, one);

const random: fc.Arbitrary<Random> = fc.record({
  family: fc.constantFrom(4, 6),
  addresses: four(fc.nat(2)),
  ports: four(fc.constantFrom(...PORTS)),
  scope: fc.nat(1),
  statuses: fc.tuple(
    fc.constantFrom(0, 0, 0, -ENOENT, -ENOPROTOOPT, -EOPNOTSUPP),
    fc.constantFrom(0, 0, 0, -ENOTCONN),
    fc.constantFrom(0, 0, 0, -ENOTCONN, -EADDRINUSE),
  ),
  capture: fc.constantFrom(0, 0, 0, 0, 1, -EACCES, -ESTALE, -ENOTCONN),
  listener: fc.record({ address: fc.constantFrom(...BOUND), port: fc.constantFrom(...PORTS) }),
  localIsKnown: fc.boolean(),
});

const ROLES = [Role.original, Role.local, Role.peer, Role.captured];
const ENDPOINT = 24;

/** Writes the facts as readFacts would have. */
function fill({ family, addresses, ports, scope, statuses, capture }: Random): void {
  const memory = binding().kernelAnswer;
  new Uint8Array(memory).fill(0);
  for (const [index, role] of ROLES.entries()) {
    const start = role * ENDPOINT;
    const bytes = (family === 4 ? V4 : V6)[addresses[index]!]!;
    new Uint16Array(memory, start, 2).set([family, ports[index]!]);
    new Uint32Array(memory, start + 4, 1)[0] = bytes[0] === 0xfe ? scope : 0;
    new Uint8Array(memory, start + 8, bytes.length).set(bytes);
  }
  new Int32Array(memory, 5 * ENDPOINT, 4).set([...statuses, capture]);
}

await inNamespace(t, import.meta.url, () => {
  let certain = 0;
  fc.assert(
    fc.property(random, (facts) => {
      fill(facts);
      const { listener, localIsKnown } = facts;
      if (!binding().certainDestination(listener.port, localIsKnown)) return;
      certain++;
      const said = endpointAt(Role.scratch);
      const decided = recoverFromFacts(0, () => listener);
      deepStrictEqual(decided, { ...said, kind: decided.kind });
      if (decided.kind === 'direct') throw new Error(`it says ${decided.kind}`);
    }),
    { numRuns: 20_000 },
  );
  t.ok(certain > 2000, `C++ knew in ${certain} of 20,000 cases`);
});
