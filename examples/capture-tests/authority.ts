// A certificate authority made on the spot, and a certificate for each name that is asked for: by openssl(1).
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, type SecureContext } from 'node:tls';

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];

export class Authority implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'capture-tests-'));
  readonly #contexts = new Map<string, SecureContext>();
  /** Its own certificate: what clients are to trust. */
  readonly file = join(this.#directory, 'ca.pem');

  constructor() {
    const subject = ['-subj', '/CN=capture-tests', '-addext', 'basicConstraints=critical,CA:TRUE'];
    this.#openssl('req', '-x509', ...NEW_KEY, ...subject, '-keyout', this.#at('ca.key'), '-out', this.file);
  }

  contextFor(name: string): SecureContext {
    const known = this.#contexts.get(name);
    if (known) return known;
    // It goes into a command's arguments and a file's name.
    if (!/^[\w.-]+$/.test(name)) throw new Error(`no name for a certificate: ${name}`);
    const [key, cert] = [this.#at(`${name}.key`), this.#at(`${name}.pem`)];
    const subject = ['-subj', `/CN=${name.slice(0, 64)}`, '-addext', `subjectAltName=DNS:${name}`];
    const signer = ['-CA', this.file, '-CAkey', this.#at('ca.key')];
    this.#openssl('req', '-x509', ...NEW_KEY, ...subject, ...signer, '-keyout', key, '-out', cert);
    const context = createSecureContext({ key: readFileSync(key), cert: readFileSync(cert) });
    this.#contexts.set(name, context);
    return context;
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }

  #at(file: string): string {
    return join(this.#directory, file);
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { stdio: 'pipe' });
  }
}
