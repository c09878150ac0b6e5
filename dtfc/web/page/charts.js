// Charts of the last ten minutes, drawn as SVG.
//
// Lines are told apart by dashes and by names, not by colour alone; beside the picture there is
// the same in words, and as a table for whoever asks.

import { draw, make, put, table } from "./dom.js";

const NARROWEST = 240;
const HEIGHT = 180;
const LEFT = 74;
const BOTTOM = 24;
const TOP = 10;
const RIGHT = 8;
/** Seconds that are shown: the smallest of these that there are samples for. */
const SPANS = [60, 120, 300, 600];

/** A round number at or above a value, for the top of an axis: a power of 2, or 1, 2 or 5 times one of 10. */
export function ceiling(value, base = 10) {
    const steps = base === 1024 ? [2] : [2, 2.5, 2];
    let top = base === 1024 ? 1024 : 2;
    for (let index = base === 1024 ? 0 : 1; top < value; index++) top *= steps[index % steps.length];
    return top;
}

export class Chart {
    /**
     * @param box where it goes
     * @param lines of {name, index}: a name, and where its numbers are in a sample
     * @param words how a number is written
     * @param base of round numbers: 1024 for bytes
     */
    constructor(box, title, lines, words, base) {
        Object.assign(this, { box, title, lines, words, base });
        this.svg = draw("svg", {
            role: "img",
            class: "plot",
        });
        this.legend = make("ul", { class: "legend" });
        this.entries = lines.map((line, number) => {
            const value = make("strong");
            const mark = draw(
                "svg",
                { viewBox: "0 0 28 8", class: `swatch line-${number}`, "aria-hidden": "true" },
                draw("path", { d: "M1 4H27" }),
            );
            this.legend.append(make("li", {}, mark, make("span", { text: line.name }), value));
            return value;
        });
        this.rows = make("div", { class: "scroll" });
        const details = make("details", {}, make("summary", { text: "The same as a table" }), this.rows);
        details.addEventListener("toggle", () => this.draw(this.samples ?? [], this.now ?? 0));
        this.details = details;
        put(box, this.legend, this.svg, details);
    }

    draw(samples, now) {
        this.samples = samples;
        this.now = now;
        const age = samples.length ? now - samples[0][0] : 0;
        const seconds = SPANS.find((each) => age <= each) ?? SPANS.at(-1);
        const shown = samples.filter((each) => each[0] > now - seconds);
        // As wide as there is room, so that text is as large as elsewhere.
        const width = Math.max(NARROWEST, this.box.clientWidth);
        this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
        const most = Math.max(0, ...shown.flatMap((each) => this.lines.map((line) => each[line.index])));
        const top = ceiling(most, this.base);
        const x = (at) => LEFT + (width - LEFT - RIGHT) * (1 - (now - at) / seconds);
        const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
        const parts = [];
        for (const part of [0, 0.5, 1]) {
            const height = y(top * part);
            parts.push(draw("path", { class: "grid", d: `M${LEFT} ${height}H${width - RIGHT}` }));
            parts.push(
                draw("text", { x: LEFT - 8, y: height + 4, "text-anchor": "end", text: this.words(top * part).replace(/\.0(?=\D)/, "") }),
            );
        }
        for (const [ago, anchor] of [[seconds, "start"], [seconds / 2, "middle"], [0, "end"]]) {
            const text = ago ? `${ago < 120 ? `${ago} s` : `${ago / 60} min`} ago` : "now";
            parts.push(draw("text", { x: x(now - ago), y: HEIGHT - 6, "text-anchor": anchor, text }));
        }
        this.lines.forEach((line, number) => {
            const points = shown.map((each) => `${x(each[0]).toFixed(1)} ${y(each[line.index]).toFixed(1)}`);
            if (!points.length) return;
            const path = `M${points.join("L")}`;
            const [first, last] = [x(shown[0][0]), x(shown.at(-1)[0])].map((each) => each.toFixed(1));
            parts.push(draw("path", { class: `area line-${number}`, d: `${path}L${last} ${y(0)}L${first} ${y(0)}Z` }));
            parts.push(draw("path", { class: `line line-${number}`, d: path }));
            const latest = y(shown.at(-1)[line.index]).toFixed(1);
            parts.push(draw("circle", { class: `tip line-${number}`, cx: last, cy: latest, r: "3.5" }));
        });
        put(this.svg, ...parts);
        this.svg.setAttribute("aria-label", this.inWords(shown));
        this.lines.forEach((line, number) => {
            const latest = shown.length ? shown.at(-1)[line.index] : 0;
            this.entries[number].textContent = this.words(latest);
        });
        if (this.details.open) this.tabulate(shown, now);
    }

    inWords(shown) {
        if (!shown.length) return `${this.title}: nothing measured yet.`;
        const told = this.lines.map((line) => {
            const values = shown.map((each) => each[line.index]);
            return `${line.name}: now ${this.words(values.at(-1))}, at most ${this.words(Math.max(...values))}`;
        });
        return `${this.title} of the last minutes. ${told.join(". ")}.`;
    }

    tabulate(shown, now) {
        const rows = [];
        for (let minute = 0; minute < 10; minute++) {
            const those = shown.filter((each) => Math.floor((now - each[0]) / 60) === minute);
            if (!those.length) continue;
            const mean = (line) => those.reduce((sum, each) => sum + each[line.index], 0) / those.length;
            rows.push([
                minute ? `${minute} min ago` : "the last minute",
                ...this.lines.map((line) => this.words(mean(line))),
            ]);
        }
        const heads = ["When", ...this.lines.map((line) => `${line.name}, mean`)];
        put(this.rows, table(`${this.title}, minute by minute`, heads, rows));
    }
}
