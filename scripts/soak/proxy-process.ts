// The proxy of the soak, seen from outside: started, asked.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ConnectionRecord } from '../../lib/index.ts';
import type { Answer, Asked, Held, Question } from './proxy.ts';

/** How long a record may take: gathered by the thread, then by the event loop, of a process that may have no descriptor. */
const PATIENCE_MS = 3000;

export class ProxyProcess {
  readonly child: ChildProcess;
  died = false;
  #questions = 0;
  readonly #waiting = new Map<number, (answer: Answer) => void>();

  private constructor() {
    // A small young generation: how far V8 lets it grow under load says nothing of what is held.
    const program = fileURLToPath(new URL('./proxy.js', import.meta.url));
    this.child = spawn(process.execPath, ['--expose-gc', '--max-semi-space-size=1', program], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.child.once('exit', () => (this.died = true));
  }

  static async start(): Promise<ProxyProcess> {
    const proxy = new ProxyProcess();
    await once(proxy.child, 'message');
    proxy.child.on('message', (answer: Answer) => {
      proxy.#waiting.get(answer.id)?.(answer);
      proxy.#waiting.delete(answer.id);
    });
    return proxy;
  }

  #ask(question: Omit<Question, 'id'>): Promise<Answer> {
    const id = ++this.#questions;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.child.send({ id, ...question });
    });
  }

  async held(): Promise<Held> {
    return (await this.#ask({})).held!;
  }

  /** What it has recorded of a client. */
  async recordOf(client: Asked): Promise<ConnectionRecord | undefined> {
    const end = performance.now() + PATIENCE_MS;
    while (!this.died) {
      const { record } = await this.#ask({ client });
      if (record) return record;
      if (performance.now() > end) break;
      await delay(50);
    }
    return undefined;
  }
}
