// A live picture, and a button that records five pictures a second while it is held; they go to Python when it is let go.
const LONGEST_EDGE = 480, PAUSE_MS = 200, MOST = 100;

export default function ({ parentElement, setTriggerValue }) {
  const find = (selector) => parentElement.querySelector(selector);
  const video = find("video"), record = find("[data-record]"), turn = find("[data-turn]"), state = find("[role=status]");
  const canvas = document.createElement("canvas");
  let facing = "environment", frames = [], timer = null;

  const stop = () => video.srcObject?.getTracks().forEach((track) => track.stop());
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };

  async function open() {
    if (!navigator.mediaDevices) return say("The browser offers its camera only on https:// addresses and on this machine itself.");
    stop();
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing }, audio: false });
      const devices = await navigator.mediaDevices.enumerateDevices();
      turn.hidden = devices.filter((device) => device.kind === "videoinput").length < 2;
      say("Hold the button, and turn the thing in front of the camera.");
    } catch (error) {
      say(error.name === "NotAllowedError"
        ? "The camera is blocked. Allow it for this page in the browser, then reload."
        : "No camera was found.");
    }
  }

  function take() {
    if (video.readyState < 2 || frames.length >= MOST) return;
    const scale = Math.min(1, LONGEST_EDGE / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    frames.push(canvas.toDataURL("image/jpeg", 0.9).split(",")[1]);
    say(`${frames.length} recorded`);
  }

  function hold() {
    if (timer !== null) return;
    record.setAttribute("aria-pressed", "true");
    take();
    timer = setInterval(take, PAUSE_MS);
  }

  function release() {
    if (timer === null) return;
    clearInterval(timer);
    timer = null;
    record.removeAttribute("aria-pressed");
    if (frames.length) setTriggerValue("recorded", frames);
    frames = [];
  }

  record.onpointerdown = hold;
  record.onkeydown = (event) => { if (event.key === " " || event.key === "Enter") hold(); };
  record.onpointerup = record.onpointerleave = record.onpointercancel = record.onkeyup = record.onblur = release;
  turn.onclick = () => { facing = facing === "user" ? "environment" : "user"; open(); };
  if (!video.srcObject) open();
  return stop;
}
