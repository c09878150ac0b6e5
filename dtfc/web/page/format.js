// Numbers, times and digests as people read them. Pure; dtfc/web/words.py says the same.

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** So many bytes in the unit that leaves one to four digits. */
export function amount(count) {
    if (count < 1024) return `${Math.round(count)} B`;
    let value = count;
    let unit = "";
    for (unit of UNITS) {
        value /= 1024;
        if (value < 1023.5) break;
    }
    return `${value < 99.95 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

/** Bytes a second. */
export const speed = (rate) => `${amount(rate)}/s`;

/** A number with its thousands apart. */
export const spell = (count) => String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** A number of something a second. */
export function pace(rate) {
    if (rate >= 100) return spell(rate);
    return rate >= 10 || rate === 0 ? rate.toFixed(0) : rate.toFixed(1);
}

/** So many seconds, in the two largest units. */
export function span(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
    return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** A part of a whole in percent; 100 only when nothing is missing. */
export function percent(part, whole) {
    if (!(whole > 0)) return part >= whole ? 100 : 0;
    return part >= whole ? 100 : Math.min(99, Math.floor((100 * part) / whole));
}

/** A moment, given in seconds since 1970. */
export const moment = (at) =>
    new Date(at * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

/** The beginning and the end of a digest. */
export const short = (digest) => `${digest.slice(0, 10)}…${digest.slice(-6)}`;

/** "1 file", "2 files". */
export const many = (count, one, more = `${one}s`) => `${spell(count)} ${count === 1 ? one : more}`;
