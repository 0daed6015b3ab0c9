// Reads the records that a thread of the addon has made of connections that it has dealt with by itself.
import { familyOf, type Endpoint } from '../address.ts';
import { handshakeCode } from '../dial/handshake-error.ts';
import { systemError } from '../errors.ts';
import { protocolOf } from '../names/parse.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { REFUSALS } from './admission.ts';
import type { RelayVerdict } from './decision.ts';
import { type ConnectionRecord, recordOf } from './records.ts';

/** As write_record() of src/glue/records_glue.cc lays out the numbers. */
const NUMBERS = 13;
/** struct Record of src/relay/record.h. */
const KINDS: readonly OriginalDst['kind'][] = ['unknown', 'redirect', 'tproxy', 'ebpf', 'proxy'];
const VERDICTS: readonly (RelayVerdict | undefined)[] = [undefined, 'relay', 'reset'];
const SIDES = ['client', 'upstream'] as const;
const NOT_LOOKED_AT = 255;

/** enum RelayReason of src/relay/relay.h and enum Record::Outcome, in a word or three. */
function outcomeText(outcome: number, side: number, error: number): string {
  switch (outcome) {
    case 1:
      return 'end';
    case 2:
      return `reset by ${SIDES[side]!}`;
    case 3:
      return 'idle';
    case 4:
      return 'aborted';
    case 6:
      return 'reset by verdict';
    case 7:
      return REFUSALS[error - 1]!;
    case 8:
      return 'ERR_CLIENT_GONE';
    case 9:
      return handshakeCode(error & 0xff);
    default:
      return systemError(-error, { syscall: 'connect' }).code;
  }
}

function endpoint(address: string, port: number): Endpoint | undefined {
  return address === '' ? undefined : { address, port, family: familyOf(address) };
}

/** The records of which the numbers are in memory, and the texts in lines. */
export function readRecords(memory: ArrayBuffer, count: number, text: string): ConnectionRecord[] {
  const now = Date.now();
  const lines = text.split('\n');
  return Array.from({ length: count }, (_, at) => {
    const [
      age,
      durationMs,
      connectMs,
      clientPort,
      port,
      kind,
      verdict,
      outcome,
      side,
      error,
      up,
      down,
      protocol,
    ] = new Float64Array(
      memory,
      at * NUMBERS * Float64Array.BYTES_PER_ELEMENT,
      NUMBERS,
    ) as unknown as number[];
    const [client, destination, name] = lines.slice(at * 3, at * 3 + 3);
    const known = {
      time: now - age!,
      client: endpoint(client!, clientPort!)!,
      destination: endpoint(destination!, port!),
      kind: KINDS[kind!]!,
      verdict: VERDICTS[verdict!],
      lasting: verdict !== 0,
      connectMs: connectMs! < 0 ? undefined : connectMs!,
      durationMs: durationMs!,
      bytesToUpstream: up!,
      bytesToClient: down!,
      outcome: outcomeText(outcome!, side!, error!),
    };
    const looked = protocol! < NOT_LOOKED_AT;
    return recordOf(known, looked ? protocolOf(protocol!) : undefined, name === '' ? undefined : name);
  });
}
