/**
 * Imported before the code that is explored: a few modules that touch files, clock, chance or NBD are replaced by stand-ins
 * over the explored world. A mutant changes one rule of the code, to see that the exploration notices.
 */
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

const SRC = new URL('../../src/', import.meta.url).href;
const STAND_IN = new URL('./stand-in/', import.meta.url).href;

/** By importing module and imported name. */
const STAND_INS: readonly (readonly [importer: RegExp, name: string, standIn: string])[] = [
  [/^primary\/(cycle|slice)\.ts$/, './capture.ts', 'capture.ts'],
  [/^primary\/(cycle|copy)\.ts$/, './open-point.ts', 'open-point.ts'],
  [/^(primary\/.*|daemon\/roles|failover\/lease)\.ts$/, '../lib/clock.ts', 'clock.ts'],
  [/^(failover\/lease|primary\/known-blocks)\.ts$/, '../lib/boot-clock.ts', 'boot-clock.ts'],
  [/^primary\/known-blocks\.ts$/, '../digests/digest-file.ts', 'digest-file.ts'],
  [/^primary\/known-blocks\.ts$/, 'node:fs/promises', 'known-files.ts'],
  [/^failover\/lease\.ts$/, './lease-note.ts', 'lease-note.ts'],
  [/^(failover\/bitmaps|daemon\/replica-host)\.ts$/, '../qemu/image.ts', 'image.ts'],
  [/^(failover\/unplanned|daemon\/roles)\.ts$/, 'node:fs/promises', 'files.ts'],
  [/^(failover\/.*|primary\/replication)\.ts$/, 'node:crypto', 'crypto.ts'],
];

export interface Mutant {
  /** What rule is broken, in words. */
  readonly breaks: string;
  /** Below `src/`. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** To be called once, before anything of `src/` is imported. */
export function standIn(mutant?: Mutant): void {
  registerHooks({
    resolve(specifier, context, next) {
      const parent = context.parentURL;
      if (parent?.startsWith(SRC) === true) {
        const importer = parent.slice(SRC.length);
        const found = STAND_INS.find(([from, name]) => name === specifier && from.test(importer));
        if (found !== undefined) return { url: STAND_IN + found[2], shortCircuit: true };
      }
      return next(specifier, context);
    },
    load(url, context, next) {
      const loaded = next(url, context);
      if (mutant === undefined || url !== SRC + mutant.file) return loaded;
      const source = readFileSync(new URL(url), 'utf8');
      const parts = source.split(mutant.from);
      if (parts.length !== 2) throw new Error(`${mutant.file} doesn't say this once any more: ${mutant.from}`);
      return { ...loaded, source: parts.join(mutant.to) };
    },
  });
}
