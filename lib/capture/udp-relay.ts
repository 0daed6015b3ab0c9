// Datagrams that are passed on, each flow by a socket of its own.
import { createSocket, type Socket } from 'node:dgram';
import { type Endpoint, formatEndpoint } from '../address.ts';
import type { NativeDatagramRefusals } from '../binding.ts';
import type { ClientProcess } from '../recover/proc.ts';
import type { DatagramInfo, InterceptedDatagramSocket } from '../udp/types.ts';

/** A client's datagrams to one destination, and the answers. */
export interface CapturedFlow {
  readonly client: Readonly<Endpoint>;
  readonly destination: Readonly<Endpoint>;
  /** The name that the client was told this address for, if it asked for one. */
  readonly name: string | undefined;
  /** Who has sent the first one, with `processes`, if it is certain. */
  readonly process: ClientProcess | undefined;
  /** Bytes so far. */
  bytesToUpstream: number;
  bytesToClient: number;
}

/** After so long without a datagram a flow is over; of so many, the oldest makes room. */
const LIMITS = { idleMs: 60_000, flows: 1024 };

type KnownInfo = Exclude<DatagramInfo, { kind: 'unknown' }>;

interface Open {
  flow: CapturedFlow;
  socket: Socket;
  timer: NodeJS.Timeout;
  /** What came before the socket was connected, which takes a turn of the event loop. */
  waiting: Buffer[] | undefined;
}

/** Passes datagrams on from `inside`, to where `admit` lets them, by sockets of this thread's namespace. */
export class UdpRelay {
  readonly #inside: InterceptedDatagramSocket;
  readonly #refusals: NativeDatagramRefusals;
  readonly #admit: (destination: Readonly<Endpoint>, client: Readonly<Endpoint>) => CapturedFlow | undefined;
  readonly #limits: typeof LIMITS;
  readonly #open = new Map<string, Open>();

  /**
   * @param refusals tell a sender that its datagram was refused, as if nobody listened there
   * @param admit called for each new flow; undefined: it is refused
   */
  constructor(
    refusals: NativeDatagramRefusals,
    inside: InterceptedDatagramSocket,
    admit: (destination: Readonly<Endpoint>, client: Readonly<Endpoint>) => CapturedFlow | undefined,
    limits = LIMITS,
  ) {
    this.#limits = limits;
    this.#inside = inside;
    this.#refusals = refusals;
    this.#admit = admit;
    inside.on('message', (data, info) => this.#pass(data, info));
  }

  close(): void {
    this.#inside.close();
    this.#refusals.close();
    for (const key of this.#open.keys()) this.#end(key);
  }

  #pass(data: Buffer, info: DatagramInfo): void {
    // Whatever else comes here was not captured, or it is not known where it was going.
    if (info.kind !== 'redirect') return;
    const key = `${formatEndpoint(info.source)} ${formatEndpoint(info.destination)}`;
    const known = this.#open.get(key) ?? this.#begin(key, info);
    if (known === undefined) return;
    known.timer.refresh();
    known.flow.bytesToUpstream += data.length;
    // It may be sent later than this returns, and the memory is the batch's.
    const copy = Buffer.from(data);
    if (known.waiting) known.waiting.push(copy);
    else known.socket.send(copy);
  }

  #begin(key: string, info: KnownInfo): Open | undefined {
    const flow = this.#admit(info.destination, info.source);
    if (flow === undefined) {
      this.#refuse(info);
      return undefined;
    }
    if (this.#open.size >= this.#limits.flows) this.#end(this.#open.keys().next().value!);
    const { address, port, family } = info.destination;
    const socket = createSocket(family === 'IPv4' ? 'udp4' : 'udp6');
    const end = (): void => this.#end(key);
    const timer = setTimeout(end, this.#limits.idleMs).unref();
    const one: Open = { flow, socket, timer, waiting: [] };
    this.#open.set(key, one);
    socket.on('error', () => {
      this.#refuse(info);
      end();
    });
    socket.on('message', (answer: Buffer) => {
      one.timer.refresh();
      flow.bytesToClient += answer.length;
      this.#inside.reply(answer, info);
    });
    // Connected: the kernel takes answers from there alone.
    socket.connect(port, address, () => {
      for (const data of one.waiting!) socket.send(data);
      one.waiting = undefined;
    });
    return one;
  }

  #refuse({ source, destination, size }: KnownInfo): void {
    // If it cannot be told (no memory), it waits as for one that was lost.
    this.#refusals.send(source.address, source.port, destination.address, destination.port, size);
  }

  #end(key: string): void {
    const one = this.#open.get(key);
    /* c8 ignore next -- an error of a socket whose time was over in the same tick */
    if (one === undefined) return;
    this.#open.delete(key);
    clearTimeout(one.timer);
    one.socket.close();
  }
}
