/** BLAKE3 for `blake3.py`: of each line of hex digits, in hex. */
import { createInterface } from 'node:readline';
import { blake3 } from '@napi-rs/blake-hash';

createInterface({ input: process.stdin }).on('line', (line) =>
  console.log(blake3(Buffer.from(line, 'hex')).toString('hex')),
);
