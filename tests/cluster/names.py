"""A name server on loopback that knows one name, of several addresses: what a headless service has in a cluster."""
import socket
import struct
import threading


class Names:
    def __init__(self, addresses):
        self.addresses, self.socket = addresses, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                question, who = self.socket.recvfrom(4096)
                self.socket.sendto(self.answer(question), who)
            except OSError:
                return

    def answer(self, question):
        """Every A question gets all addresses, every other one none; what comes behind the question (EDNS) is left out."""
        end = question.index(b"\0", 12) + 5
        kind = struct.unpack(">H", question[end - 4:end - 2])[0]
        found = self.addresses if kind == 1 else []
        head = question[:2] + struct.pack(">HHHHH", 0x8580, 1, len(found), 0, 0)
        return head + question[12:end] + b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(a) for a in found)

    def stop(self):
        self.socket.close()
