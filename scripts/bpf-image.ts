// Reads what clang makes of a BPF program: an ELF object, of which the loader needs the instructions, the maps and
// where the instructions name them.
export interface BpfMap {
  name: string;
  /** type, key_size, value_size, max_entries, flags of bpf(2). */
  words: number[];
}

export interface BpfProgram {
  name: string;
  instructions: bigint[];
  /** Which instruction loads the address of which map. */
  references: { instruction: number; map: number }[];
}

export interface BpfObject {
  maps: BpfMap[];
  programs: BpfProgram[];
}

const SYMBOL_TABLE = 2;
const RELOCATIONS = 9;
const OBJECT = 1;
const FUNCTION = 2;
const WORDS = 5;

interface Section {
  name: string;
  type: number;
  offset: number;
  size: number;
  link: number;
  info: number;
}

interface Symbol {
  name: string;
  kind: number;
  section: number;
  value: number;
  size: number;
}

/** elf(5), 64 bits, little-endian, relocatable. */
export function readBpfObject(file: Buffer): BpfObject {
  const long = (at: number): number => Number(file.readBigUInt64LE(at));
  const text = (at: number): string => file.toString('latin1', at, file.indexOf(0, at));
  if (file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1)
    throw new Error('no little-endian ELF object of 64 bits');

  const headers = long(40);
  const sections: Section[] = Array.from({ length: file.readUInt16LE(60) }, (_, index) => {
    const at = headers + index * file.readUInt16LE(58);
    const [type, offset, size] = [file.readUInt32LE(at + 4), long(at + 24), long(at + 32)];
    const [link, info] = [file.readUInt32LE(at + 40), file.readUInt32LE(at + 44)];
    return { name: String(file.readUInt32LE(at)), type, offset, size, link, info };
  });
  const names = sections[file.readUInt16LE(62)]!;
  for (const section of sections) section.name = text(names.offset + Number(section.name));

  const table = sections.find(({ type }) => type === SYMBOL_TABLE)!;
  const strings = sections[table.link]!;
  const symbols: Symbol[] = Array.from({ length: table.size / 24 }, (_, index) => {
    const at = table.offset + index * 24;
    const name = text(strings.offset + file.readUInt32LE(at));
    const [kind, section] = [file[at + 4]! & 15, file.readUInt16LE(at + 6)];
    return { name, kind, section, value: long(at + 8), size: long(at + 16) };
  });

  const mapSection = sections.findIndex(({ name }) => name === 'maps');
  const mapSymbols = symbols
    .filter(({ kind, section }) => kind === OBJECT && section === mapSection)
    .sort((a, b) => a.value - b.value);
  const maps = mapSymbols.map(({ name, value }) => ({
    name,
    words: Array.from({ length: WORDS }, (_, word) =>
      file.readUInt32LE(sections[mapSection]!.offset + value + word * 4),
    ),
  }));

  const programs = symbols
    .filter(({ kind }) => kind === FUNCTION)
    .sort((a, b) => a.section - b.section || a.value - b.value)
    .map(({ name, section, value, size }) => {
      const { offset } = sections[section]!;
      const instructions = Array.from({ length: size / 8 }, (_, index) =>
        file.readBigUInt64LE(offset + value + index * 8),
      );
      const relocations = sections.filter(({ type, info }) => type === RELOCATIONS && info === section);
      const references = relocations.flatMap(({ offset: start, size: length }) =>
        Array.from({ length: length / 16 }, (_, index) => start + index * 16)
          .filter((at) => long(at) >= value && long(at) < value + size)
          .map((at) => {
            const symbol = symbols[file.readUInt32LE(at + 12)]!;
            const map = mapSymbols.indexOf(symbol);
            if (map < 0) throw new Error(`${name} refers to ${symbol.name}, which is no map`);
            return { instruction: (long(at) - value) / 8, map };
          }),
      );
      return { name, instructions, references };
    });
  return { maps, programs };
}
