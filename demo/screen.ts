/** The demo's words: colours and things that redraw themselves on a terminal, plain lines elsewhere. */
import { styleText } from 'node:util';
import { duration } from '../src/cli/words.ts';

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';

const WIDTH = 92;
/** Elsewhere than on a terminal, what is under way is told this often, ms. */
const PLAIN_EVERY_MS = 1000;

export class Screen {
  readonly #isTerminal = process.stdout.isTTY;
  readonly #colours = this.#isTerminal && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb';
  #stages = 0;
  #drawn = false;
  #toldAt = 0;

  paint(style: Style, text: string): string {
    return this.#colours ? styleText(style, text, { validateStream: false }) : text;
  }

  line(text = ''): void {
    this.#erase();
    console.log(text);
  }

  /** @param why what a newcomer should know about it. */
  stage(title: string, why: string): void {
    this.line();
    this.line(this.paint('bold', `${++this.#stages}  ${title}`));
    for (const text of wrap(why, WIDTH - 3)) this.line(this.paint('dim', `   ${text}`));
  }

  note(text: string): void {
    for (const line of wrap(text, WIDTH - 3)) this.line(`   ${line}`);
  }

  warn(text: string): void {
    for (const line of wrap(text, WIDTH - 5)) this.line(`   ${this.paint('yellow', `! ${line}`)}`);
  }

  /** Lines that keep their columns. */
  columns(text: string): void {
    for (const line of text.split('\n')) this.line(`   ${line}`);
  }

  /** Somebody else's words. */
  quote(text: string): void {
    for (const line of text.split('\n').flatMap((one) => wrap(one, WIDTH - 5))) {
      this.line(`   ${this.paint('cyan', '│')} ${line}`);
    }
  }

  step(text: string, ms: number): void {
    this.line(`   ${this.paint('green', '·')} ${text}${this.paint('dim', ` (${duration(ms)})`)}`);
  }

  check(ok: boolean, text: string): void {
    const [mark, ...more] = wrap(text, WIDTH - 5);
    this.line(`   ${ok ? this.paint('green', '✓') : this.paint('red', '✗')} ${mark}`);
    for (const line of more) this.line(`     ${line}`);
  }

  /** Something under way, on a terminal only: gone with the next line. */
  underWay(text: string): void {
    if (!this.#isTerminal) return;
    process.stdout.write(`\r\x1b[K   ${text.slice(0, WIDTH - 3)}`);
    this.#drawn = true;
  }

  /** How far something is. */
  progress(text: string): void {
    this.underWay(text);
    if (this.#isTerminal || performance.now() - this.#toldAt < PLAIN_EVERY_MS) return;
    this.#toldAt = performance.now();
    this.line(`   ${text}`);
  }

  #erase(): void {
    if (this.#drawn) process.stdout.write('\r\x1b[K');
    this.#drawn = false;
  }
}

/** Lines of at most `width`; a word that is longer is broken. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (let word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
    }
    while (word.length > width) {
      lines.push(word.slice(0, width));
      word = word.slice(width);
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}
