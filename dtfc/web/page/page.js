// The page: asks the node how it is, every two seconds while somebody looks.

import { Trouble, askJson, setToken, token } from "./access.js";
import { Chart } from "./charts.js";
import { announce, byId, say } from "./dom.js";
import { find, startFinding } from "./files.js";
import { pace, speed } from "./format.js";
import { forgetDrawn, show } from "./status.js";
import { startUploads } from "./uploads.js";

const EVERY = 2000;
const LONGEST = 20000;
const KEPT = 300;

document.documentElement.classList.add("scripted");

const charts = [
    new Chart(
        byId("chart-bytes"),
        "Throughput",
        [
            { name: "Sent", index: 2 },
            { name: "Received", index: 3 },
        ],
        speed,
        1024,
    ),
    new Chart(byId("chart-requests"), "Requests a second", [{ name: "Answered", index: 1 }], (rate) => `${pace(rate)}/s`, 10),
];

let samples = [];
let latest = 0;
let timer = 0;
let paused = false;
let failures = 0;
let mood = "";
let looking = false;
let first = true;
let unreadable = false;
let heardAt = null;

function setState(next, words) {
    const badge = byId("state");
    badge.dataset.mood = next;
    say(byId("state-words"), words);
    if (mood && mood !== next) announce(`State of the node: ${words}.`);
    mood = next;
}

async function look() {
    clearTimeout(timer);
    if (looking || paused || document.hidden) return;
    looking = true;
    try {
        const told = await askJson(`status.json?since=${latest}`);
        const { node } = told;
        if (unreadable || (first && token())) hideGate();
        first = unreadable = false;
        say(byId("stale"), "");
        failures = 0;
        heardAt = new Date();
        // A clock that was set back, or another node behind the same name: begin anew.
        if (latest > node.now + 60) samples = [];
        samples = [...samples, ...told.rates.samples].slice(-KEPT);
        latest = samples.at(-1)?.[0] ?? 0;
        told.rates.samples = samples;
        show(told);
        for (const chart of charts) chart.draw(samples, node.now);
        if (node.draining) setState("warn", "Shutting down");
        else if (told.store.trouble) setState("bad", "In trouble");
        else setState("fine", "Serving");
    } catch (trouble) {
        failures += 1;
        if (!(trouble instanceof Trouble)) throw trouble;
        if ([401, 403].includes(trouble.status)) {
            unreadable = true;
            setState("warn", "Not readable");
            document.documentElement.classList.add("unreadable");
            showGate("This node tells only whom it knows", trouble);
        } else {
            setState("bad", "No answer");
            if (heardAt) say(byId("stale"), `What is shown is how it was at ${heardAt.toLocaleTimeString()}.`);
        }
    } finally {
        looking = false;
        timer = setTimeout(look, Math.min(LONGEST, EVERY * (1 + failures)));
    }
}

function showGate(title, trouble) {
    byId("gate").hidden = false;
    say(byId("gate-title"), title);
    const brought = token() ? "The token in this tab is not good for it: " : "";
    say(byId("gate-why"), `${brought}${trouble.message}.`);
    // Where 401 is not the answer, no token helps.
    byId("token-form").hidden = trouble.status !== 401 && !token();
    byId("token-forget").hidden = !token();
}

function hideGate() {
    byId("token-form").hidden = false;
    document.documentElement.classList.remove("unreadable");
    byId("gate").hidden = !token();
    byId("token-forget").hidden = !token();
    if (token()) {
        say(byId("gate-title"), "A token is in use");
        say(byId("gate-why"), "What is shown here is what it opens.");
    }
}

function startGate() {
    byId("token-form").hidden = false;
    byId("token-form").addEventListener("submit", (event) => {
        event.preventDefault();
        const given = byId("token").value.trim();
        if (!given) return;
        setToken(given);
        byId("token").value = "";
        hideGate();
        again();
    });
    byId("token-forget").addEventListener("click", () => {
        setToken("");
        location.reload();
    });
}

function again() {
    failures = 0;
    forgetDrawn();
    look();
    find();
}

function startPause() {
    const button = byId("pause");
    button.hidden = false;
    button.addEventListener("click", () => {
        paused = !paused;
        button.setAttribute("aria-pressed", String(paused));
        if (!paused) look();
    });
}

document.addEventListener("visibilitychange", look);
addEventListener("online", look);
addEventListener("resize", () => {
    for (const chart of charts) chart.draw(chart.samples ?? [], chart.now ?? 0);
});

startGate();
startPause();
startFinding();
startUploads(
    () => {
        if (!byId("prefix").value) find();
    },
    (trouble) => showGate("Files are taken only from whom this node knows", trouble),
);
look();
find();
