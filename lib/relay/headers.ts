// From which peers a relay server demands PROXY protocol headers, as the addon takes it.
import { checkProxyProtocol, type ProxyProtocolOptions } from '../accept/proxy-protocol.ts';
import { addressRanges } from '../policy/address-ranges.ts';

/** struct ExpectedHeaders of src/relay/headers.h. */
export interface ExpectedHeaders {
  /** 33 bytes of each range: its family, its first and its last address. */
  readonly from: Uint8Array | undefined;
  readonly timeout: number;
}

const ADDRESS_SIZE = 16;

/** The list as it is now. @throws unless these are options */
export function readProxyProtocol(options: ProxyProtocolOptions | undefined): ExpectedHeaders {
  checkProxyProtocol(options);
  if (options === undefined) return { from: undefined, timeout: 0 };
  const padded = (bytes: number[]): number[] => [
    ...bytes,
    ...Array.from({ length: ADDRESS_SIZE - bytes.length }, () => 0),
  ];
  const ranges = addressRanges(options.from).map(({ first, last }) => [
    first.length === 4 ? 4 : 6,
    ...padded(first),
    ...padded(last),
  ]);
  return { from: Uint8Array.from(ranges.flat()), timeout: options.timeout ?? 5000 };
}
