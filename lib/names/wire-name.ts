// A domain name in a DNS message, where no compression is allowed.

/**
 * RFC 1035, 3.1: the name that starts at `offset`, and where it ends. Undefined for one that is cut or compressed, and
 * for one with a dot inside a label, which as text would be another name.
 */
export function readName(message: Buffer, offset: number): { name: string; end: number } | undefined {
  const labels: string[] = [];
  for (let at = offset; at - offset < 255;) {
    const length = message[at];
    if (length === undefined || length > 63) return undefined;
    const end = at + 1 + length;
    if (length === 0) return { name: labels.join('.'), end };
    const label = message.toString('latin1', at + 1, end);
    if (label.length < length || label.includes('.')) return undefined;
    labels.push(label);
    at = end;
  }
  return undefined;
}
