// tap's coverage map: every test counts for all of lib/, so that scenario tests count too.
import { readdirSync } from 'node:fs';

const files = readdirSync('dist/lib', { recursive: true })
  .filter((file) => file.endsWith('.js'))
  .map((file) => `dist/lib/${file}`);

export default () => files;
